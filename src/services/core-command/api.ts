/** core-command: commands to devices, in EdgeX v3's shapes. */
import { type Static, Type } from "typebox";
import { contract, get, put, type Service } from "../../kernel/contract.ts";
import { Event, Free, Name, Page } from "../../kernel/edgex.ts";
import { code } from "../../kernel/error.ts";

export const COMMAND_DEVICE_UNKNOWN = code(
  "COMMAND_DEVICE_UNKNOWN",
  "not-found",
  "Check the device's name with 'holdfast devices'.",
);
export const COMMAND_UNKNOWN = code(
  "COMMAND_UNKNOWN",
  "not-found",
  "Check the command's name in the device's profile.",
);
export const COMMAND_LOCKED = code(
  "COMMAND_LOCKED",
  "locked",
  "Unlock the device (adminState UNLOCKED), or wait until it is UP.",
);

const CoreCommand = Type.Object({
  name: Type.String(),
  get: Type.Optional(Type.Boolean()),
  set: Type.Optional(Type.Boolean()),
  path: Type.String(),
  url: Type.String(),
  parameters: Type.Array(Type.Object({ resourceName: Type.String(), valueType: Type.String() })),
});
export const DeviceCoreCommand = Type.Object({
  deviceName: Type.String(),
  profileName: Type.String(),
  coreCommands: Type.Array(CoreCommand),
});
export type DeviceCoreCommand = Static<typeof DeviceCoreCommand>;
const Flag = (value: boolean) => Type.Boolean({ default: value });
const callers = ["support-scheduler", "pipeline"];
const errors = [COMMAND_DEVICE_UNKNOWN, COMMAND_UNKNOWN, COMMAND_LOCKED];

export const coreCommand = contract(
  "core-command",
  {
    allCommands: get("/api/v3/device/all", {
      summary: "Lists the commands of all devices.",
      input: Page,
      output: Type.Object({ totalCount: Type.Integer(), deviceCoreCommands: Type.Array(DeviceCoreCommand) }),
      public: { scope: "device:read" },
      callers,
    }),
    commandsOfDevice: get("/api/v3/device/name/:name", {
      summary: "Lists the commands of a device.",
      input: { name: Name },
      output: Type.Object({ deviceCoreCommand: DeviceCoreCommand }),
      errors,
      public: { scope: "device:read" },
      callers,
    }),
    read: get("/api/v3/device/name/:name/:command", {
      summary: "Reads from a device; answers the event, and pushes it to the bus where asked.",
      input: { name: Name, command: Name, pushEvent: Flag(false), returnEvent: Flag(true), regexCmd: Flag(true) },
      wire: { pushEvent: "ds-pushevent", returnEvent: "ds-returnevent", regexCmd: "ds-regexcmd" },
      output: Type.Object({ event: Type.Optional(Event) }),
      errors,
      public: { scope: "command:read", timeoutMs: 15_000 },
      callers,
      timeoutMs: 15_000,
    }),
    write: put("/api/v3/device/name/:name/:command", {
      summary: "Writes values to a device.",
      input: { name: Name, command: Name, body: Free },
      output: Type.Object({}),
      errors,
      public: { scope: "command:write", timeoutMs: 15_000, retry: "never" },
      callers,
      timeoutMs: 15_000,
    }),
  },
  { edgex: true, edgexPort: 59_882 },
);
export type CoreCommand = Service<typeof coreCommand>;
