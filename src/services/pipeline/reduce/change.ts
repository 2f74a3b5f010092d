/** OnChange and Deadband: a reading leaves when it says something else than the last one that left. */
import { type Static, Type } from "typebox";
import type { Resource, Value } from "../../../kernel/events/model.ts";
import { field } from "../../../kernel/service.ts";
import type { Gate } from "./gates.ts";
import { SilenceMsMax, silenceOf } from "./silence.ts";
import type { Notes } from "./series.ts";
import { differenceOf, isNumeric, type Mark, markOf } from "./values.ts";
import { ResourceNames } from "./names.ts";

/**
 * OnChange. Guarantee: of every reading that stays, the last reading of its resource that left before it has the same
 * value. Numbers are the same when they are equal (0 and -0, and the texts of a number, too), NaN is the same as NaN, objects
 * and arrays when they are so member by member, in order.
 */
export const OnChange = Type.Object(
  { function: Type.Literal("OnChange"), resources: ResourceNames, silenceMsMax: SilenceMsMax },
  { additionalProperties: false },
);

/**
 * Deadband. Guarantee: every reading that stays differs by at most `tolerance` from the last reading of its resource that
 * left before it. What is no number (text, Bool, null, NaN, an infinity, an array) leaves when it is another than that.
 */
export const Deadband = Type.Object(
  {
    function: Type.Literal("Deadband"),
    resources: ResourceNames,
    tolerance: field(Type.Number({ minimum: 0 }), {
      description:
        "A reading leaves when it differs by more than this from the last one sent; in the resource's units.",
      default: undefined,
      example: 0.5,
    }),
    silenceMsMax: SilenceMsMax,
  },
  { additionalProperties: false },
);

/** DeadbandPercent. Guarantee: as Deadband, with a tolerance that is so many percent of the magnitude of the last reading that left. */
export const DeadbandPercent = Type.Object(
  {
    function: Type.Literal("DeadbandPercent"),
    resources: ResourceNames,
    tolerancePercent: field(Type.Number({ minimum: 0, maximum: 100 }), {
      description: "A reading leaves when it differs by more than so many percent of the last one sent from it.",
      default: undefined,
      example: 1,
    }),
    silenceMsMax: SilenceMsMax,
  },
  { additionalProperties: false },
);

type Spec = Static<typeof OnChange> | Static<typeof Deadband> | Static<typeof DeadbandPercent>;

/** What was sent last; undefined before the first. */
interface Sent {
  readonly isNumber: boolean;
  mark: Mark | undefined;
  ns: bigint;
}

const SENT_BYTES = 96;

/** Makes the gate of OnChange, Deadband or DeadbandPercent. */
export function changeGate(spec: Spec): Gate<Sent> {
  const isSilent = silenceOf(spec.silenceMsMax);
  const toleranceAt = toleranceOf(spec);
  const notes: Notes = { errorMax: 0 };
  const begin = (resource: Resource): Sent => ({ isNumber: isNumeric(resource), mark: undefined, ns: 0n });
  const isNear = (sent: Sent, mark: Mark, value: Value, originNs: bigint): boolean => {
    if (sent.mark === undefined || isSilent(originNs, sent.ns)) return false;
    if (Object.is(mark, sent.mark)) return true;
    const tolerance = sent.isNumber ? toleranceAt(sent.mark) : 0;
    if (tolerance === 0) return false;
    const distance = Math.abs(differenceOf(value, sent.mark));
    if (!(distance <= tolerance)) return false;
    notes.errorMax = Math.max(notes.errorMax as number, distance);
    return true;
  };
  return {
    begin,
    passes(sent, value, originNs) {
      const mark = markOf(value, sent.isNumber);
      if (isNear(sent, mark, value, originNs)) return false;
      sent.mark = mark;
      sent.ns = originNs;
      return true;
    },
    save: ({ mark, ns }) => [mark, ns],
    load: (saved, resource) => {
      const [mark, ns] = saved as [Mark | undefined, bigint | number];
      return Object.assign(begin(resource), { mark, ns: BigInt(ns) });
    },
    bytes: SENT_BYTES,
    notes,
  };
}

function toleranceOf(spec: Spec): (mark: Mark) => number {
  if (spec.function === "OnChange") return () => 0;
  if (spec.function === "Deadband") return () => spec.tolerance;
  return (mark) => (Math.abs(magnitudeOf(mark)) * spec.tolerancePercent) / 100;
}

const magnitudeOf = (mark: Mark): number =>
  typeof mark === "number" ? mark : typeof mark === "string" && mark.startsWith("n") ? Number(mark.slice(1)) : 0;
