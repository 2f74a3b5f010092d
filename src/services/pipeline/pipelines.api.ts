/** Pipelines: what leaves the node, where to, and how; and rules, which act at once. */
import { type Static, Type } from "typebox";
import { del, get, put } from "../../kernel/contract.ts";
import { code } from "../../kernel/error.ts";

export const PIPELINE_UNKNOWN = code(
  "PIPELINE_UNKNOWN",
  "not-found",
  "'holdfast pipelines' and 'holdfast rules' list what there is.",
);
export const PIPELINE_NAME_INVALID = code("PIPELINE_NAME_INVALID", "invalid", "Choose a name as the message says.");
export const PIPELINE_TOO_MANY = code(
  "PIPELINE_TOO_MANY",
  "limited",
  "Remove one that is not needed, or put two into one.",
);
export const PIPELINE_DESTINATION_UNKNOWN = code(
  "PIPELINE_DESTINATION_UNKNOWN",
  "invalid",
  "Name one of the destinations in the config (pipeline.destinations).",
);
export const PIPELINE_EXPORT_INVALID = code(
  "PIPELINE_EXPORT_INVALID",
  "invalid",
  "Set the destination's kind, format, compression and encryption in the config as the pipeline's functions say, or leave the functions out.",
);
export const PIPELINE_RULE_INVALID = code(
  "PIPELINE_RULE_INVALID",
  "invalid",
  "Give the rule a command, a notification, or both.",
);
export const PIPELINE_RULE_BUSY = code(
  "PIPELINE_RULE_BUSY",
  "limited",
  "See why the devices that the rules command answer so late ('holdfast rules').",
);

const callers = ["node"];
const read = { callers, public: { scope: "node:read" } };
const write = { callers, public: { scope: "node:write" }, timeoutMs: 30_000 };
/** A definition, checked by its schema where it is used: what is wrong with it is then said in the words of the config. */
const Definition = Type.Record(Type.String(), Type.Unknown());
const Name = Type.String({ minLength: 1, maxLength: 200 });
const Origin = Type.Union([Type.Literal("config"), Type.Literal("changed")]);

export const FunctionStatus = Type.Object({
  function: Type.String(),
  readingsIn: Type.Integer(),
  readingsOut: Type.Integer(),
  /** In the reading's units, of functions that bound their error. */
  errorMax: Type.Optional(Type.Number()),
});
export const PipelineStatus = Type.Object({
  name: Type.String(),
  /** `changed`: set while running. */
  origin: Origin,
  definition: Definition,
  /** Position of the bus up to which it is followed, and records behind its end. */
  position: Type.Integer(),
  behind: Type.Optional(Type.Integer()),
  /** Why it stands still. */
  fault: Type.Optional(Type.String()),
  functions: Type.Array(FunctionStatus),
  /** Readings that are in the outbox or were, and their bytes, since the pipeline is there. */
  readings: Type.Integer(),
  bytes: Type.Integer(),
});
export type PipelineStatus = Static<typeof PipelineStatus>;

export const Leaving = Type.Object({
  pipeline: Type.String(),
  destinations: Type.Array(Type.String()),
  profileName: Type.String(),
  resourceName: Type.String(),
  /** What is done to it, in order. */
  functions: Type.Array(Type.String()),
  readings: Type.Integer(),
  bytes: Type.Integer(),
  lastAtMs: Type.Integer(),
});
export type Leaving = Static<typeof Leaving>;

export const RuleStatus = Type.Object({
  name: Type.String(),
  origin: Origin,
  definition: Definition,
  /** Devices for which its condition holds now. */
  active: Type.Integer(),
  fired: Type.Integer(),
  failed: Type.Integer(),
  lastFiredMs: Type.Optional(Type.Integer()),
  lastFault: Type.Optional(Type.String()),
});
export type RuleStatus = Static<typeof RuleStatus>;

const errors = [
  PIPELINE_UNKNOWN,
  PIPELINE_NAME_INVALID,
  PIPELINE_TOO_MANY,
  PIPELINE_DESTINATION_UNKNOWN,
  PIPELINE_EXPORT_INVALID,
];

export const pipelineOperations = {
  pipelines: get("/pipelines", {
    summary: "Lists the pipelines: their definitions, how far each is, and what each of its functions saved.",
    input: {},
    output: Type.Object({ pipelines: Type.Array(PipelineStatus) }),
    ...read,
  }),
  setPipeline: put("/pipelines/:name", {
    summary: "Adds a pipeline or changes one while it runs; what it has queued stays.",
    input: { name: Name, body: Definition },
    output: Type.Object({ name: Type.String() }),
    errors,
    ...write,
  }),
  removePipeline: del("/pipelines/:name", {
    summary: "Removes a pipeline; what it holds and what it has queued still goes.",
    input: { name: Name },
    output: Type.Object({ name: Type.String() }),
    errors,
    ...write,
  }),
  leaves: get("/leaves", {
    summary: "Lists every resource that leaves the node: where to, reduced how, how many readings and bytes.",
    input: {},
    output: Type.Object({ resources: Type.Array(Leaving) }),
    ...read,
  }),
  rules: get("/rules", {
    summary: "Lists the local rules and how often each has acted.",
    input: {},
    output: Type.Object({ rules: Type.Array(RuleStatus) }),
    ...read,
  }),
  setRule: put("/rules/:name", {
    summary: "Adds a local rule or changes one while it runs.",
    input: { name: Name, body: Definition },
    output: Type.Object({ name: Type.String() }),
    errors: [...errors, PIPELINE_RULE_INVALID],
    ...write,
  }),
  removeRule: del("/rules/:name", {
    summary: "Removes a local rule.",
    input: { name: Name },
    output: Type.Object({ name: Type.String() }),
    errors,
    ...write,
  }),
};
