/** Device services, on the wire as EdgeX v3 has them. */
import { Type } from "typebox";
import { del, get, patch, post } from "../../kernel/contract.ts";
import { DeviceService, ItemResults, Labels, Name, Page, requestOf } from "../../kernel/edgex.ts";
import { METADATA_IN_USE, METADATA_RANGE, METADATA_SERVICE_UNKNOWN } from "./codes.ts";

const Services = Type.Object({ totalCount: Type.Integer(), services: Type.Array(DeviceService) });
const readers = ["core-data", "core-command", "pipeline", "device-*", "gateway"];
const read = { scope: "device:read" };
const write = { scope: "device:write" };

export const serviceOperations = {
  addServices: post("/api/v3/deviceservice", {
    summary: "Adds device services.",
    input: { body: Type.Union([Type.Array(requestOf("service", DeviceService)), Type.Null()]) },
    output: ItemResults,
    status: 207,
    callers: ["device-*"],
    public: write,
  }),
  patchServices: patch("/api/v3/deviceservice", {
    summary: "Changes the fields given of device services, named by id or name.",
    input: { body: Type.Union([Type.Array(requestOf("service", Type.Partial(DeviceService))), Type.Null()]) },
    output: ItemResults,
    status: 207,
    callers: ["device-*"],
    public: write,
  }),
  allServices: get("/api/v3/deviceservice/all", {
    summary: "Lists device services, of all labels named.",
    input: { ...Page, labels: Type.Optional(Labels) },
    output: Services,
    errors: [METADATA_RANGE],
    callers: readers,
    public: read,
  }),
  serviceByName: get("/api/v3/deviceservice/name/:name", {
    summary: "Tells a device service by its name.",
    input: { name: Name },
    output: Type.Object({ service: DeviceService }),
    errors: [METADATA_SERVICE_UNKNOWN],
    callers: readers,
    public: read,
  }),
  deleteService: del("/api/v3/deviceservice/name/:name", {
    summary: "Removes a device service that owns no device.",
    input: { name: Name },
    output: Type.Object({}),
    errors: [METADATA_SERVICE_UNKNOWN, METADATA_IN_USE],
    public: write,
  }),
};
