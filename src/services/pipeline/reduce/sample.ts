/** Sample and SampleInterval: one reading of many leaves, whatever it says. */
import { type Static, Type } from "typebox";
import { field } from "../../../kernel/service.ts";
import type { Gate } from "./gates.ts";
import { ResourceNames } from "./names.ts";
import { floorDiv, nsOf } from "./time.ts";

/** Sample. Guarantee: of the readings of a resource of a device the first leaves, and then every `every`-th. */
export const Sample = Type.Object(
  {
    function: Type.Literal("Sample"),
    resources: ResourceNames,
    every: field(Type.Integer({ minimum: 1, maximum: 1_000_000_000 }), {
      description: "One reading of so many leaves.",
      default: undefined,
      example: 10,
    }),
  },
  { additionalProperties: false },
);

/**
 * SampleInterval. Guarantee: of the readings of a resource of a device that follow each other within one interval the first
 * leaves. Intervals are counted from 1970 by the events' origins, so that the readings of two devices leave together.
 */
export const SampleInterval = Type.Object(
  {
    function: Type.Literal("SampleInterval"),
    resources: ResourceNames,
    intervalMs: field(Type.Integer({ minimum: 1, maximum: 2_147_483_647 }), {
      description: "The first reading of every interval of so many milliseconds leaves.",
      default: undefined,
      example: 60_000,
    }),
  },
  { additionalProperties: false },
);

/** Makes the gate of Sample. */
export function sampleGate({ every }: Static<typeof Sample>): Gate<{ seen: number }> {
  return {
    begin: () => ({ seen: 0 }),
    passes: (state) => {
      const first = state.seen === 0;
      state.seen = (state.seen + 1) % every;
      return first;
    },
    save: ({ seen }) => seen,
    load: (saved) => ({ seen: saved as number }),
    bytes: 32,
  };
}

/** Makes the gate of SampleInterval. */
export function intervalGate({ intervalMs }: Static<typeof SampleInterval>): Gate<{ interval: bigint | undefined }> {
  const intervalNs = nsOf(intervalMs);
  return {
    begin: () => ({ interval: undefined }),
    passes: (state, _value, originNs) => {
      const interval = floorDiv(originNs, intervalNs);
      const first = interval !== state.interval;
      state.interval = interval;
      return first;
    },
    save: ({ interval }) => [interval],
    load: (saved) => {
      const [interval] = saved as [bigint | number | undefined];
      return { interval: interval === undefined ? undefined : BigInt(interval) };
    },
    bytes: 48,
  };
}
