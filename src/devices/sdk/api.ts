/** What every device service answers (EdgeX v3 device SDK): commands to devices, and the validation of new ones. */
import { Type } from "typebox";
import { contract, get, type Contract, put, type Service } from "../../kernel/contract.ts";
import { Event, Free, Name } from "../../kernel/edgex.ts";
import { code } from "../../kernel/error.ts";

export const DEVICE_UNKNOWN = code("DEVICE_UNKNOWN", "not-found", "Check the device's name with 'holdfast devices'.");
export const DEVICE_COMMAND_UNKNOWN = code(
  "DEVICE_COMMAND_UNKNOWN",
  "not-found",
  "Check the command's name in the device's profile.",
);
export const DEVICE_NOT_ALLOWED = code(
  "DEVICE_NOT_ALLOWED",
  "not-allowed",
  "The profile says whether a resource may be read or written (readWrite).",
);
export const DEVICE_LOCKED = code(
  "DEVICE_LOCKED",
  "locked",
  "Unlock the device (adminState UNLOCKED), or wait until it is UP.",
);
export const DEVICE_FAILED = code(
  "DEVICE_FAILED",
  "internal",
  "The device did not do it; the message says what it answered.",
);
export const DEVICE_VALUE_INVALID = code(
  "DEVICE_VALUE_INVALID",
  "invalid",
  "Send a value of the resource's type within its limits.",
);

/** Flags of EdgeX's commands, on the wire `true` and `false`. */
const Flag = (value: boolean) => Type.Boolean({ default: value });
const flags = { pushEvent: Flag(false), returnEvent: Flag(true), regexCmd: Flag(true) };
const wire = { pushEvent: "ds-pushevent", returnEvent: "ds-returnevent", regexCmd: "ds-regexcmd" };
const errors = [
  DEVICE_UNKNOWN,
  DEVICE_COMMAND_UNKNOWN,
  DEVICE_NOT_ALLOWED,
  DEVICE_LOCKED,
  DEVICE_FAILED,
  DEVICE_VALUE_INVALID,
];

const operations = {
  read: get("/api/v3/device/name/:deviceName/:command", {
    summary: "Reads a resource or command of a device; answers an event, and pushes it to the bus where asked.",
    input: { deviceName: Name, command: Name, ...flags },
    wire,
    output: Type.Object({ event: Type.Optional(Event) }),
    errors,
    callers: ["core-command"],
    timeoutMs: 15_000,
  }),
  write: put("/api/v3/device/name/:deviceName/:command", {
    summary: "Writes values to a device, by resource name.",
    input: { deviceName: Name, command: Name, body: Free },
    output: Type.Object({}),
    errors,
    callers: ["core-command"],
    timeoutMs: 15_000,
  }),
};

/** States the contract of a device service of this name. */
export const deviceService = (name: string): Contract<typeof operations> => contract(name, operations, { edgex: true });
export type DeviceServiceApi = Service<Contract<typeof operations>>;
