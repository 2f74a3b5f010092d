/** Pipelines whose functions remember, and the events that are sent through them until something is killed. */
import type { Definitions } from "./pipelines.ts";

export const PUBLISHER = "device-a";
export const DEVICES = ["a", "b"];
/** A walk that is the same each time: of the sequence alone. */
export const valueOf = (sequence: number): number => Math.round(100 * Math.sin(sequence / 9)) + (sequence % 7);

const batch = { function: "BatchByTimeAndCount", batchThreshold: 50, timeIntervalMs: 15 } as const;
export const STATEFUL: Definitions = {
  windows: {
    functions: [
      { function: "TumblingWindow", resources: ["*"], aggregates: ["count"], sizeMs: 100, latenessMs: 0 },
      batch,
    ],
  },
  deadband: { functions: [{ function: "Deadband", resources: ["*"], tolerance: 20 }, batch], priority: 8 },
};
