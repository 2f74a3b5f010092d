/** The longest silence: a reading that comes so long after the last one sent leaves, whatever it says. */
import { Type } from "typebox";
import { field } from "../../../kernel/service.ts";
import { nsOf } from "./time.ts";

export const SilenceMsMax = Type.Optional(
  field(Type.Integer({ minimum: 1, maximum: 2_147_483_647 }), {
    description:
      "Milliseconds, by the readings' origins: a reading so long after the last one sent leaves whatever it says; absent: never.",
    default: undefined,
    example: 600_000,
  }),
);

/** Makes the test whether `originNs` lies so far from `sentNs`, in either direction: a clock set back silences nobody. */
export function silenceOf(silenceMsMax: number | undefined): (originNs: bigint, sentNs: bigint) => boolean {
  if (silenceMsMax === undefined) return () => false;
  const silenceNs = nsOf(silenceMsMax);
  return (originNs, sentNs) => originNs - sentNs >= silenceNs || sentNs - originNs >= silenceNs;
}
