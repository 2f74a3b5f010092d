/** Which traces are told: when they are over, all with an error, all that were slow, and of the rest a share. */
import type { StoredSpan } from "../../trace/api.ts";
import { traceIdOf } from "./otlp.ts";

export interface TailOptions {
  /** 0 to 1. */
  readonly share: number;
  readonly slowMs: number;
  readonly waitMs: number;
  monotonicMs(): number;
}

/** Traces that wait for their end, and those of which it is known that they are told; above it the oldest are decided, or forgotten. */
const TRACES_MAX = 16_384;
/** W3C trace context level 2: the last 7 bytes of a trace id are random; by them everybody who samples decides alike. */
const RANDOM_BITS = 56n;

interface Waiting {
  readonly sinceMs: number;
  /** The position of the feed before its first span. */
  readonly before: number;
  readonly spans: StoredSpan[];
}

export class Tail {
  readonly #o: TailOptions;
  readonly #threshold: bigint;
  readonly #waiting = new Map<string, Waiting>();
  /** Decided for what they were, not by their id: what comes late is told, too. */
  readonly #told = new Set<string>();

  constructor(options: TailOptions) {
    this.#o = options;
    this.#threshold = BigInt(Math.round(options.share * 2 ** 53)) << (RANDOM_BITS - 53n);
  }

  add(span: StoredSpan, before: number): void {
    const id = traceIdOf(span);
    const waiting = this.#waiting.get(id);
    if (waiting) waiting.spans.push(span);
    else this.#waiting.set(id, { sinceMs: this.#o.monotonicMs(), before, spans: [span] });
  }

  /** Takes the spans that are to be told of the traces that have waited long enough. */
  take(): StoredSpan[] {
    const untilMs = this.#o.monotonicMs() - this.#o.waitMs;
    const taken: StoredSpan[] = [];
    for (const [id, { sinceMs, spans }] of this.#waiting) {
      if (sinceMs > untilMs && this.#waiting.size <= TRACES_MAX) break;
      this.#waiting.delete(id);
      if (this.#isTold(id, spans)) taken.push(...spans);
    }
    return taken;
  }

  /** The position of the feed up to which all is decided; `read`: up to where it was read. */
  through(read: number): number {
    const oldest = this.#waiting.values().next().value;
    return oldest ? Math.min(read, oldest.before) : read;
  }

  #isTold(id: string, spans: readonly StoredSpan[]): boolean {
    if (this.#told.has(id)) return true;
    const { slowMs } = this.#o;
    if (spans.some(({ status, durationUs }) => status >= 400 || durationUs >= slowMs * 1_000)) {
      this.#told.add(id);
      if (this.#told.size > TRACES_MAX) this.#told.delete(this.#told.keys().next().value!);
      return true;
    }
    return BigInt(`0x${id.slice(-14)}`) < this.#threshold;
  }
}
