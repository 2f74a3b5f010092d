/** Counts the calls of a service. */
import type { Clock } from "../clock.ts";
import { asFailure, type Failure } from "../error.ts";
import type { Histogram } from "./histogram.ts";
import type { Metrics } from "./metrics.ts";

/** Counts the calls of one service's operations. */
export class Calls {
  readonly #clock: Clock;
  readonly #finished: ReturnType<Metrics["counter"]>;
  readonly #seconds: ReturnType<Metrics["durations"]>;
  readonly #byOperation = new Map<string, Histogram>();
  running = 0;

  constructor(metrics: Metrics, clock: Clock) {
    this.#clock = clock;
    this.#finished = metrics.counter("holdfast_calls", "Finished calls, by operation, status and error code.", [
      "operation",
      "status",
      "code",
    ]);
    this.#seconds = metrics.durations("holdfast_call_seconds", "How long calls took, streams left out, by operation.", [
      "operation",
    ]);
    metrics.read("gauge", "holdfast_calls_running", "Calls under way, streams included.", () => this.running);
  }

  /** Counts a finished call; `seconds` undefined for a stream, whose length says nothing. */
  finished(operation: string, status: number, code: string, seconds: number | undefined, requestId?: string): void {
    this.#finished.add(1, operation, STATUSES[status] ?? String(status), code);
    if (seconds === undefined) return;
    let histogram = this.#byOperation.get(operation);
    if (!histogram) this.#byOperation.set(operation, (histogram = this.#seconds.of(operation)));
    histogram.add(seconds, requestId, requestId === undefined ? 0 : this.#clock.wallMs());
  }

  /** Runs a call and counts it, however it ends. */
  async around<T>(operation: string, requestId: string | undefined, work: () => Promise<T>): Promise<T> {
    const startMs = this.#clock.monotonicMs();
    const done = (failure?: Failure) => {
      this.running--;
      const seconds = (this.#clock.monotonicMs() - startMs) / 1000;
      this.finished(operation, failure?.status ?? 0, failure?.code ?? "", seconds, requestId);
    };
    this.running++;
    try {
      const result = await work();
      done();
      return result;
    } catch (error) {
      done(asFailure(error));
      throw error;
    }
  }
}

/** The most frequent status needs no text made of it each time. */
const STATUSES: Readonly<Record<number, string>> = { 0: "200", 200: "200" };
