/** What a pipeline is: what it takes from the bus, what it does to it, where it goes; as the config and people write it. */
import { type Static, Type } from "typebox";
import { field } from "../../../kernel/service.ts";
import { Compress, Encrypt, HTTPExport, MQTTExport, Transform } from "./exports.ts";
import {
  AddTags,
  FilterByDeviceName,
  FilterByProfileName,
  FilterByResourceName,
  FilterBySourceName,
  JSONLogic,
} from "./filters.ts";
import { ReductionSpec } from "../reduce/reduction.ts";
import { Coarsen, Drop, Pseudonym } from "./privacy.ts";

/** Pipelines of a node, functions of a pipeline, destinations of a pipeline, topic filters of a pipeline. */
export const PIPELINES_MAX = 32;
const FUNCTIONS_MAX = 32;
const DESTINATIONS_MAX = 8;
const TOPICS_MAX = 32;
const BATCH_EVENTS_MAX = 10_000;
const BATCH_MS_MAX = 3_600_000;

/** What a batch is unless a function says otherwise. */
export const BATCH_DEFAULT = { events: 1_000, ms: 500 } as const;

const strict = { additionalProperties: false } as const;
/** A name of a pipeline, a rule or a destination. */
export const PlainName = Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" });

const BatchThreshold = Type.Integer({ minimum: 1, maximum: BATCH_EVENTS_MAX });
const TimeIntervalMs = Type.Integer({ minimum: 1, maximum: BATCH_MS_MAX });
const BatchByCount = Type.Object({ function: Type.Literal("BatchByCount"), batchThreshold: BatchThreshold }, strict);
const BatchByTime = Type.Object({ function: Type.Literal("BatchByTime"), timeIntervalMs: TimeIntervalMs }, strict);
const BatchByTimeAndCount = Type.Object(
  {
    function: Type.Literal("BatchByTimeAndCount"),
    batchThreshold: BatchThreshold,
    timeIntervalMs: TimeIntervalMs,
  },
  strict,
);

/** A step of a pipeline, by EdgeX's name where EdgeX has it. */
export const FunctionSpec = Type.Union([
  FilterByDeviceName,
  FilterByProfileName,
  FilterBySourceName,
  FilterByResourceName,
  AddTags,
  JSONLogic,
  Drop,
  Coarsen,
  Pseudonym,
  ...ReductionSpec.anyOf,
  BatchByCount,
  BatchByTime,
  BatchByTimeAndCount,
  Transform,
  Compress,
  Encrypt,
  HTTPExport,
  MQTTExport,
]);
export type FunctionSpec = Static<typeof FunctionSpec>;

export const PipelineDefinition = Type.Object(
  {
    topics: field(Type.Array(Type.String({ maxLength: 1_024, pattern: "^edgex/events/" }), { maxItems: TOPICS_MAX }), {
      description: "Topic filters of the events that it takes; empty for all.",
      default: [],
      example: ["edgex/events/device/+/Pump/#"],
    }),
    functions: field(Type.Array(FunctionSpec, { maxItems: FUNCTIONS_MAX }), {
      description: "What is done to the events, in order; docs/pipelines.md lists the functions.",
      default: [],
      example: [{ function: "FilterByResourceName", resourceNames: ["Pressure"] }],
    }),
    destinations: field(Type.Array(PlainName, { maxItems: DESTINATIONS_MAX }), {
      description: "Where its batches go, by the names under `destinations`.",
      default: ["cloud"],
      example: ["cloud", "plant"],
    }),
    priority: field(Type.Integer({ minimum: 0, maximum: 9 }), {
      description: "Its share of the uplink: 0 to 2 low, 3 to 6 normal, 7 to 9 high.",
      default: 5,
      example: 8,
    }),
    ttlMs: field(Type.Integer({ minimum: 0, maximum: 31_536_000_000_000 }), {
      description:
        "Milliseconds that a batch may wait for its destination before it is dropped and said so; 0 for ever.",
      default: 0,
      example: 86_400_000,
    }),
    from: field(Type.Union([Type.Literal("oldest"), Type.Literal("now")]), {
      description: "Where on the bus a new pipeline begins.",
      default: "oldest",
      example: "now",
    }),
  },
  strict,
);
export type PipelineDefinition = Static<typeof PipelineDefinition>;

/** How large a batch may grow and how long an event waits for it. */
export interface BatchLimits {
  readonly events: number;
  readonly ms: number;
}

/** Reads the limits of batches out of the functions; the last one counts. By count alone, time is that of BATCH_MS_MAX. */
export function batchLimitsOf(functions: readonly FunctionSpec[]): BatchLimits {
  let limits: BatchLimits = BATCH_DEFAULT;
  for (const spec of functions) {
    if (spec.function === "BatchByCount") limits = { events: spec.batchThreshold, ms: BATCH_MS_MAX };
    else if (spec.function === "BatchByTime") limits = { events: BATCH_EVENTS_MAX, ms: spec.timeIntervalMs };
    else if (spec.function === "BatchByTimeAndCount") limits = { events: spec.batchThreshold, ms: spec.timeIntervalMs };
  }
  return limits;
}
