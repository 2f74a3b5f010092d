/** Reductions: functions that make few readings of many, each with a guarantee (its spec states it). */
import { type Static, Type } from "typebox";
import { changeGate, Deadband, DeadbandPercent, OnChange } from "./change.ts";
import { doorFunction, SwingingDoor } from "./door.ts";
import { gateFunction } from "./gates.ts";
import { Quantise, quantiseFunction } from "./quantise.ts";
import { Rate, rateFunction } from "./rate.ts";
import { intervalGate, Sample, sampleGate, SampleInterval } from "./sample.ts";
import { BySeries, type Reduction, type SeriesFunction, type SeriesLimits } from "./series.ts";
import { CountWindow, sessionFunction, SessionWindow } from "./session.ts";
import { slidingFunction, SlidingWindow } from "./sliding.ts";
import { LargestTriangle, trianglesFunction } from "./triangles.ts";
import { HoppingWindow, tumblingFunction, TumblingWindow } from "./tumbling.ts";

export type { Reduction } from "./series.ts";

/** One function with its parameters. */
export const ReductionSpec = Type.Union([
  OnChange,
  Deadband,
  DeadbandPercent,
  SwingingDoor,
  Quantise,
  TumblingWindow,
  HoppingWindow,
  SlidingWindow,
  SessionWindow,
  CountWindow,
  Rate,
  Sample,
  SampleInterval,
  LargestTriangle,
]);
export type ReductionSpec = Static<typeof ReductionSpec>;

export interface ReductionOptions extends SeriesLimits {
  /** The name of the pipeline: keeps apart the ids of what several pipelines derive of the same readings. */
  readonly pipeline?: string;
}

/** Makes the reduction of a spec. Fails PIPELINE_WINDOW_INVALID. */
export function makeReduction(spec: ReductionSpec, options: ReductionOptions = {}): Reduction {
  const by = <S>(of: SeriesFunction<S>): Reduction => new BySeries(of, options);
  switch (spec.function) {
    case "OnChange":
    case "Deadband":
    case "DeadbandPercent":
      return by(gateFunction(spec.resources, changeGate(spec)));
    case "Sample":
      return by(gateFunction(spec.resources, sampleGate(spec)));
    case "SampleInterval":
      return by(gateFunction(spec.resources, intervalGate(spec)));
    case "SwingingDoor":
      return by(doorFunction(spec));
    case "Quantise":
      return by(quantiseFunction(spec));
    case "TumblingWindow":
    case "HoppingWindow":
      return by(tumblingFunction(spec, options.pipeline));
    case "SessionWindow":
    case "CountWindow":
      return by(sessionFunction(spec, options.pipeline));
    case "SlidingWindow":
      return by(slidingFunction(spec, options.pipeline));
    case "Rate":
      return by(rateFunction(spec, options.pipeline));
    default:
      return by(trianglesFunction(spec));
  }
}
