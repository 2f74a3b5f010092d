/** EdgeX's registry: one registration a service id, looked after by checks (core-keeper.yaml). */
import { type Static, Type } from "typebox";
import { del, get, post, put } from "../../kernel/contract.ts";
import { REGISTRY_FULL, REGISTRY_NAME_REFUSED, REGISTRY_SERVICE_EXISTS, REGISTRY_SERVICE_UNKNOWN } from "./codes.ts";

const Text = Type.Optional(Type.String({ maxLength: 200 }));
const ServiceId = Type.String({ minLength: 1, maxLength: 200 });

/** HALT is EdgeX's word for one that deregistered itself. */
export const Status = Type.Union([
  Type.Literal("UP"),
  Type.Literal("DOWN"),
  Type.Literal("UNKNOWN"),
  Type.Literal("HALT"),
]);
export type Status = Static<typeof Status>;

export const HealthCheck = Type.Object({
  /** As Go writes durations: `10s`. */
  interval: Type.Optional(Type.String({ maxLength: 64 })),
  path: Type.Optional(Type.String({ maxLength: 2048 })),
  /** `http` or `https`, EdgeX's; `tcp`, and `ttl`: it says so itself, by a PUT within each interval. */
  type: Type.String({ maxLength: 16 }),
});

export const Registration = Type.Object({
  serviceId: ServiceId,
  status: Status,
  host: Type.String({ maxLength: 255 }),
  port: Type.Integer({ minimum: 1, maximum: 65_535 }),
  healthCheck: HealthCheck,
  lastConnected: Type.Integer(),
  created: Type.Integer(),
  modified: Type.Integer(),
});
export type Registration = Static<typeof Registration>;

const Request = Type.Object({
  apiVersion: Text,
  requestId: Text,
  registration: Type.Object({
    serviceId: ServiceId,
    /** EdgeX's services leave it empty. */
    status: Type.Optional(Type.Union([Status, Type.Literal("")])),
    host: Type.Optional(Type.String({ maxLength: 255 })),
    port: Type.Integer({ minimum: 1, maximum: 65_535 }),
    healthCheck: HealthCheck,
  }),
});
export type RegistrationRequest = Static<typeof Request>;

export const registrationOperations = {
  addRegistration: post("/api/v3/registry", {
    summary: "Registers a service that the registry is to look after by checks.",
    input: { body: Request },
    status: 201,
    output: Type.Object({}),
    errors: [REGISTRY_SERVICE_EXISTS, REGISTRY_NAME_REFUSED, REGISTRY_FULL],
    callers: ["*"],
    public: { scope: "node:write" },
  }),
  updateRegistration: put("/api/v3/registry", {
    summary: "Changes a registration; with type ttl this is its sign of life, with status HALT its deregistration.",
    input: { body: Request },
    status: 204,
    output: Type.Object({}),
    errors: [REGISTRY_SERVICE_UNKNOWN, REGISTRY_NAME_REFUSED],
    callers: ["*"],
    public: { scope: "node:write", retry: "safe" },
  }),
  registrations: get("/api/v3/registry/all", {
    summary: "Lists the registrations, those of our own services included.",
    input: { deregistered: Type.Boolean({ default: false }) },
    output: Type.Object({ totalCount: Type.Integer(), registrations: Type.Array(Registration) }),
    callers: ["*"],
    public: { scope: "node:read" },
  }),
  registration: get("/api/v3/registry/serviceId/:serviceId", {
    summary: "Shows the registration of a service.",
    input: { serviceId: ServiceId },
    output: Type.Object({ registration: Registration }),
    errors: [REGISTRY_SERVICE_UNKNOWN],
    callers: ["*"],
    public: { scope: "node:read" },
  }),
  removeRegistration: del("/api/v3/registry/serviceId/:serviceId", {
    summary: "Removes the registration of a service.",
    input: { serviceId: ServiceId },
    status: 204,
    output: Type.Object({}),
    errors: [REGISTRY_SERVICE_UNKNOWN, REGISTRY_NAME_REFUSED],
    callers: ["*"],
    public: { scope: "node:write" },
  }),
};
