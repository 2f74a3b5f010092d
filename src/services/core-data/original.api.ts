/** The originals: events as they came, in blocks of columns, for whoever sends them on. */
import { Type } from "typebox";
import { post } from "../../kernel/contract.ts";
import { Name } from "../../kernel/edgex.ts";
import { Nanos } from "../../kernel/nanos.ts";
import { DATA_TIME_INVALID } from "./codes.ts";

/** Devices that one question may name. */
export const DEVICES_MAX = 256;

export const originalOperations = {
  originals: post("/originals", {
    summary: "Gives a page of the events between two times, in the order in which they are kept, each as it came.",
    input: {
      body: Type.Object({
        /** Where the last page ended; 0 for the first. */
        after: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
        /** Origins, both included. */
        start: Nanos,
        end: Nanos,
        /** All devices where none is named. */
        devices: Type.Array(Name, { maxItems: DEVICES_MAX }),
      }),
    },
    output: Type.Object({
      /** Encoded (kernel/events); none where nothing of this page is between the times. */
      blocks: Type.Optional(Type.Unsafe<Uint8Array>({})),
      next: Type.Integer({ minimum: 0 }),
      /** How much of what is kept this and the pages before it have passed, 0 to 1; 1: there is no more. */
      share: Type.Number({ minimum: 0, maximum: 1 }),
    }),
    errors: [DATA_TIME_INVALID],
    callers: ["pipeline"],
    timeoutMs: 30_000,
  }),
};
