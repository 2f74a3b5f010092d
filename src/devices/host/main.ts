/** device-host: real readings on any machine, without hardware. */
import { hostname } from "node:os";
import { Type } from "typebox";
import { field } from "../../kernel/service.ts";
import { defineDevice } from "../sdk/main.ts";
import { makeHostDriver } from "./driver.ts";

export const main = defineDevice({
  name: "device-host",
  config: Type.Object(
    {
      deviceName: field(Type.String({ minLength: 0, maxLength: 255 }), {
        description: "Name of the device; empty: the machine's host name.",
        default: "",
        example: "pump-room-box",
      }),
      interval: field(Type.String({ maxLength: 64 }), {
        description: "How often each group of values is read (EdgeX duration).",
        default: "5s",
        example: "1m",
      }),
    },
    { additionalProperties: false },
  ),
  reads: [
    "/proc/stat",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/diskstats",
    "/proc/self/net/dev",
    "/proc/pressure",
    "/proc/uptime",
    "/sys/class/thermal",
    "/sys/class/hwmon",
  ],
  driver: ({ clock, config, directory, name }) =>
    makeHostDriver({
      clock,
      directory,
      deviceName: config.deviceName || hostname() || "host",
      serviceName: name,
      interval: config.interval,
    }),
});
