/** device-virtual: devices without hardware, for a first look, for tests and for benches. */
import { Type } from "typebox";
import { field } from "../../kernel/service.ts";
import { defineDevice } from "../sdk/main.ts";
import { makeVirtualDriver } from "./driver.ts";
import { runLoad } from "./load.ts";

const Duration = Type.String({ maxLength: 64 });

export const main = defineDevice({
  name: "device-virtual",
  config: Type.Object(
    {
      interval: field(Duration, {
        description: "How often device virtual-1 is read (EdgeX duration).",
        default: "10s",
        example: "500ms",
      }),
      seed: field(Type.Integer(), { description: "Seed of the random values.", default: 1, example: 42 }),
      replay: field(Type.Array(Type.String({ maxLength: 4096 }), { maxItems: 256 }), {
        description: "CSV files of timestamp,value; each is played again and again as a device named like the file.",
        default: [],
        example: ["/var/lib/series/pump.csv"],
      }),
      replayInterval: field(Duration, {
        description: "How often a replayed series gives its next value.",
        default: "1s",
        example: "5m",
      }),
      loadEventsPerSecond: field(Type.Integer({ minimum: 0, maximum: 1_000_000 }), {
        description: "Events a second of an artificial load; 0 for none.",
        default: 0,
        example: 3_000,
      }),
      loadReadingsPerEvent: field(Type.Integer({ minimum: 1, maximum: 1_024 }), {
        description: "Readings in each event of that load.",
        default: 10,
        example: 1,
      }),
      loadDevices: field(Type.Integer({ minimum: 1, maximum: 10_000 }), {
        description: "Devices that the load comes from.",
        default: 10,
        example: 100,
      }),
    },
    { additionalProperties: false },
  ),
  driver({ clock, config, name, stopping }, publisher) {
    const { interval, seed, replay, replayInterval, loadEventsPerSecond, loadReadingsPerEvent, loadDevices } = config;
    const driver = makeVirtualDriver({ serviceName: name, interval, seed, replay, replayInterval });
    if (loadEventsPerSecond === 0) return driver;
    const load = {
      clock,
      publisher,
      seed,
      signal: stopping,
      eventsPerSecond: loadEventsPerSecond,
      readingsPerEvent: loadReadingsPerEvent,
      devices: loadDevices,
    };
    const running = runLoad(load);
    return { ...driver, stop: () => running };
  },
});
