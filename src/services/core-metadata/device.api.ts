/** Devices, on the wire as EdgeX v3 has them. */
import { Type } from "typebox";
import { del, get, patch, post } from "../../kernel/contract.ts";
import { Device, ItemResults, Labels, Name, Page, requestOf } from "../../kernel/edgex.ts";
import { METADATA_DEVICE_UNKNOWN, METADATA_RANGE } from "./codes.ts";

const Flag = Type.Boolean({ default: false });
const Devices = Type.Object({ totalCount: Type.Integer(), devices: Type.Array(Device) });
const LabelList = Type.Optional(Labels);
const readers = ["core-data", "core-command", "pipeline", "device-*", "gateway"];
const read = { scope: "device:read" };
const write = { scope: "device:write" };

export const deviceOperations = {
  addDevices: post("/api/v3/device", {
    summary: "Adds devices; each is first offered to the device service that is to own it.",
    input: {
      body: Type.Union([Type.Array(requestOf("device", Device)), Type.Null()]),
      bypassValidation: Flag,
      force: Flag,
    },
    output: ItemResults,
    status: 207,
    callers: ["device-*"],
    public: write,
    timeoutMs: 60_000,
  }),
  patchDevices: patch("/api/v3/device", {
    summary: "Changes the fields given of devices, named by id or name.",
    input: {
      body: Type.Union([Type.Array(requestOf("device", Type.Partial(Device))), Type.Null()]),
      bypassValidation: Flag,
    },
    output: ItemResults,
    status: 207,
    callers: ["device-*"],
    public: write,
    timeoutMs: 60_000,
  }),
  allDevices: get("/api/v3/device/all", {
    summary: "Lists devices, of all labels named.",
    input: { ...Page, labels: LabelList },
    output: Devices,
    errors: [METADATA_RANGE],
    callers: readers,
    public: read,
  }),
  deviceByName: get("/api/v3/device/name/:name", {
    summary: "Tells a device by its name.",
    input: { name: Name },
    output: Type.Object({ device: Device }),
    errors: [METADATA_DEVICE_UNKNOWN],
    callers: readers,
    public: read,
  }),
  deviceById: get("/api/v3/device/id/:id", {
    summary: "Tells a device by its id.",
    input: { id: Type.String({ minLength: 1, maxLength: 100 }) },
    output: Type.Object({ device: Device }),
    errors: [METADATA_DEVICE_UNKNOWN],
    callers: readers,
    public: read,
  }),
  deleteDevice: del("/api/v3/device/name/:name", {
    summary: "Removes a device by its name.",
    input: { name: Name },
    output: Type.Object({}),
    errors: [METADATA_DEVICE_UNKNOWN],
    callers: ["device-*"],
    public: write,
  }),
  deviceExists: get("/api/v3/device/check/name/:name", {
    summary: "Tells whether a device of this name exists.",
    input: { name: Name },
    output: Type.Object({}),
    errors: [METADATA_DEVICE_UNKNOWN],
    callers: readers,
    public: read,
  }),
  devicesByService: get("/api/v3/device/service/name/:name", {
    summary: "Lists the devices of a device service; none is an empty list, not 404.",
    input: { name: Name, ...Page },
    output: Devices,
    errors: [METADATA_RANGE],
    callers: readers,
    public: read,
  }),
  devicesByProfile: get("/api/v3/device/profile/name/:name", {
    summary: "Lists the devices of a profile.",
    input: { name: Name, ...Page },
    output: Devices,
    errors: [METADATA_RANGE],
    callers: readers,
    public: read,
  }),
};
