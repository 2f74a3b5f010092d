/** The page of metrics: those of every instance as the trace service was told them last, and the gateway's own of this moment. */
import { makeCall } from "../../kernel/call.ts";
import type { Family, Metrics } from "../../kernel/metrics/metrics.ts";
import { formatFor, TEXT_TYPES, type Told, writeMetrics } from "../../kernel/metrics/openmetrics.ts";
import type { Trace } from "../trace/api.ts";

/** Without the others' metrics there are the gateway's own: a scrape is answered while the trace service is away. */
const OTHERS_TIMEOUT_MS = 2_000;

export interface ScrapeOptions {
  readonly name: string;
  readonly instance: string;
  readonly metrics: Metrics;
  readonly trace: Trace;
}

export class Scrape {
  readonly #o: ScrapeOptions;

  constructor(options: ScrapeOptions) {
    this.#o = options;
  }

  /** Writes all in the format that the Accept header asks for. */
  async text(accept: string | undefined, requestId: string): Promise<{ type: string; text: string }> {
    const { name, instance, metrics } = this.#o;
    const others = await this.#others(requestId);
    const own: Told = {
      service: name,
      instance,
      families: [...metrics.families(), completeness(others !== undefined)],
    };
    const format = formatFor(accept);
    return { type: TEXT_TYPES[format], text: writeMetrics([own, ...(others ?? [])], format) };
  }

  async #others(requestId: string): Promise<Told[] | undefined> {
    const { name, instance, trace } = this.#o;
    const call = makeCall({ caller: name, timeoutMs: OTHERS_TIMEOUT_MS, requestId });
    try {
      const { instances } = await trace.metrics({}, call);
      return instances
        .filter((told) => told.instance !== instance)
        .map(({ service, instance: of, ageS, families }) => ({
          service,
          instance: of,
          families: [age(ageS), ...families],
        }));
    } catch {
      // holdfast_metrics_complete tells of it.
      return undefined;
    } finally {
      call.end(false);
    }
  }
}

const gauge = (name: string, help: string, value: number): Family => ({
  name,
  help,
  type: "gauge",
  samples: [{ labels: {}, value }],
});
const age = (ageS: number): Family =>
  gauge("holdfast_metrics_age_seconds", "How long ago an instance told its metrics.", ageS);
const completeness = (isComplete: boolean): Family =>
  gauge("holdfast_metrics_complete", "Whether the metrics of the other services are in this text.", isComplete ? 1 : 0);
