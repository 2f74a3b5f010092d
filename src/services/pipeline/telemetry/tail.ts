/** Which traces are told: when they are over, all with an error, all that were slow, and of the rest a share; and with them their log lines. */
import type { StoredSpan } from "../../trace/api.ts";
import { LEVELS, type LogLine } from "./lines.ts";
import { traceIdOf } from "./otlp.ts";

export interface TailOptions {
  /** 0 to 1. */
  readonly share: number;
  readonly slowMs: number;
  readonly waitMs: number;
  /** Lines of this level and above are told, whatever becomes of their trace. */
  readonly lineLevel: number;
  monotonicMs(): number;
}

/** A line with the span that it is of, where that is known. */
export interface TracedLine {
  readonly line: LogLine;
  readonly spanId?: string | undefined;
}

export interface Decided {
  readonly spans: StoredSpan[];
  readonly lines: TracedLine[];
}

/** Traces that wait for their end, and those of which it is known that they are told; above it the oldest are decided, or forgotten. */
const TRACES_MAX = 16_384;
/** W3C trace context level 2: the last 7 bytes of a trace id are random; by them everybody who samples decides alike. */
const RANDOM_BITS = 56n;
/** A line of no request is of no trace. */
const TRACE_ID = /^[0-9a-f]{32}$/;
export type Feed = "spans" | "lines";

interface Waiting {
  readonly sinceMs: number;
  /** The positions of the feeds before its first span and line. */
  readonly before: Partial<Record<Feed, number>>;
  readonly spans: StoredSpan[];
  readonly lines: LogLine[];
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
    this.#of(traceIdOf(span), "spans", before).spans.push(span);
  }

  /** Adds a line; `position` is its own. One of no request waits like the others, so that the feed has one position. */
  addLine(line: LogLine, position: number): void {
    const { requestId, level } = line;
    if (requestId === undefined && level < this.#o.lineLevel) return;
    this.#of(requestId?.replaceAll("-", "") ?? `line ${position}`, "lines", position - 1).lines.push(line);
  }

  /** Takes what is to be told of the traces that have waited long enough. */
  take(): Decided {
    const untilMs = this.#o.monotonicMs() - this.#o.waitMs;
    const taken: Decided = { spans: [], lines: [] };
    for (const [id, { sinceMs, spans, lines }] of this.#waiting) {
      if (sinceMs > untilMs && this.#waiting.size <= TRACES_MAX) break;
      this.#waiting.delete(id);
      const isTold = this.#isTold(id, spans, lines);
      if (isTold) taken.spans.push(...spans);
      for (const line of lines)
        if (isTold || line.level >= this.#o.lineLevel)
          taken.lines.push({ line, spanId: isTold ? spanOf(line, spans)?.spanId : undefined });
    }
    return taken;
  }

  /** The position of a feed up to which all is decided; `read`: up to where it was read. */
  through(read: number, feed: Feed = "spans"): number {
    let through = read;
    for (const { before } of this.#waiting.values()) through = Math.min(through, before[feed] ?? read);
    return through;
  }

  #of(id: string, feed: Feed, before: number): Waiting {
    let waiting = this.#waiting.get(id);
    if (!waiting) {
      waiting = { sinceMs: this.#o.monotonicMs(), before: {}, spans: [], lines: [] };
      this.#waiting.set(id, waiting);
    }
    waiting.before[feed] ??= before;
    return waiting;
  }

  #isTold(id: string, spans: readonly StoredSpan[], lines: readonly LogLine[]): boolean {
    if (!TRACE_ID.test(id)) return false;
    if (this.#told.has(id)) return true;
    const { slowMs } = this.#o;
    if (
      spans.some(({ status, durationUs }) => status >= 400 || durationUs >= slowMs * 1_000) ||
      lines.some(({ level }) => level >= LEVELS.error)
    ) {
      this.#told.add(id);
      if (this.#told.size > TRACES_MAX) this.#told.delete(this.#told.keys().next().value!);
      return true;
    }
    return BigInt(`0x${id.slice(-14)}`) < this.#threshold;
  }
}

/** The span that a line is of: its service's, of that operation where the line names one. */
function spanOf({ service, more }: LogLine, spans: readonly StoredSpan[]): StoredSpan | undefined {
  const own = spans.filter((span) => span.service === service);
  return own.find(({ operation }) => operation === more["operation"]) ?? (own.length === 1 ? own[0] : undefined);
}
