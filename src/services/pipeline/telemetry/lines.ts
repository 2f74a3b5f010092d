/** The node's log lines as the supervisor keeps them, asked for page by page over the pipeline's own line. */
import { readRequestId } from "../../../kernel/call.ts";
import type { SupervisorLine } from "../../../kernel/service.ts";

/** A line of the log book: what a service wrote, as far as it can be read. */
export interface LogLine {
  readonly service: string;
  /** pino's: 30 is info, 40 a warning, 50 an error. */
  readonly level: number;
  readonly requestId?: string;
  readonly timeMs: number;
  readonly message: string;
  /** All else that it says. */
  readonly more: Readonly<Record<string, unknown>>;
}

export interface LinePage {
  readonly lines: readonly { readonly position: number; readonly line: LogLine }[];
  readonly next: number;
  readonly missed: number;
}

export const LEVELS = { debug: 20, info: 30, warn: 40, error: 50 } as const;
/** What is not answered by then is asked again: the supervisor is a new one, or its disk is ill. */
const ANSWER_MS_MAX = 2_000;

/** The log book as the pipeline sees it. */
export class LineBook {
  readonly #supervisor: SupervisorLine;
  readonly #asked = new Map<unknown, (page: Values) => void>();
  #asks = 0;

  constructor(supervisor: SupervisorLine) {
    this.#supervisor = supervisor;
    supervisor.on("logs", (page) => this.#asked.get(page["ask"])?.(page));
  }

  /** Reads on after a position, one beyond the end is the end; undefined where there is no answer. */
  async read(after: number): Promise<LinePage | undefined> {
    const ask = ++this.#asks;
    const { promise, resolve } = Promise.withResolvers<Values | undefined>();
    const timer = setTimeout(() => resolve(undefined), ANSWER_MS_MAX).unref();
    this.#asked.set(ask, resolve);
    this.#supervisor.send("logs", { ask, after });
    const page = await promise;
    clearTimeout(timer);
    this.#asked.delete(ask);
    if (!page) return undefined;
    const { lines, next, missed } = page as unknown as Page;
    return {
      next,
      missed,
      lines: lines.map(({ position, service, text }) => ({ position, line: readLine(service, text) })),
    };
  }
}

interface Page {
  readonly lines: readonly { readonly position: number; readonly service: string; readonly text: string }[];
  readonly next: number;
  readonly missed: number;
}
type Values = Readonly<Record<string, unknown>>;

/** The book keeps JSON objects, those that were too long for it cut; of their fields it vouches for the service alone. */
function readLine(service: string, text: string): LogLine {
  const { level, time, msg, requestId, service: _, ...more } = valuesIn(text);
  const { operation } = more;
  const told = typeof msg === "string" ? msg : typeof operation === "string" ? operation : "";
  const timeMs = typeof time === "string" ? Date.parse(time) : Number.NaN;
  const id = typeof requestId === "string" ? readRequestId(requestId) : undefined;
  return {
    service,
    level: typeof level === "number" ? level : LEVELS.info,
    ...(id === undefined ? {} : { requestId: id }),
    timeMs: Number.isFinite(timeMs) ? timeMs : 0,
    message: told,
    more,
  };
}

function valuesIn(text: string): Values {
  try {
    return JSON.parse(text) as Values;
  } catch {
    // Its head says most of it.
    return { msg: text };
  }
}
