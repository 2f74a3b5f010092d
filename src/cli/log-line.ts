/** A line of the log book, as people read it. */
import type { Page, Style } from "./page.ts";
import { pad, plain } from "./text.ts";
import { clockTime, duration } from "./units.ts";

const LEVELS: readonly (readonly [level: number, word: string, style: Style])[] = [
  [60, "fatal", "red"],
  [50, "error", "red"],
  [40, "warn", "yellow"],
  [30, "info", "dim"],
  [0, "debug", "dim"],
];
/** Said in their own places, or of no use to a reader. */
const PLACED = new Set([
  "level",
  "time",
  "service",
  "requestId",
  "operation",
  "status",
  "ms",
  "code",
  "msg",
  "err",
  "caller",
]);
/** Of interest to few: left out where there is little room. */
const MINOR = new Set([
  "upstream",
  "method",
  "bytes",
  "client",
  "clientCorrelationId",
  "clientTraceId",
  "pid",
  "hostname",
]);
const SERVICE_WIDTH = 14;
/** A page of so many columns has room for whole request ids. */
const ROOMY = 120;
const ID_SHORT = 8;

interface Parsed {
  readonly level?: number;
  readonly time?: string;
  readonly service?: string;
  readonly requestId?: string;
  readonly operation?: string;
  readonly caller?: string;
  readonly status?: number;
  readonly ms?: number;
  readonly code?: string;
  readonly msg?: string;
  readonly err?: { readonly message?: string } | string;
}

/** Writes a line: time, level, service, what was done or said, and the id of its request. */
export function logLine(page: Page, text: string, nowMs: number): string {
  const line = parse(text);
  if (!line) return plain(text);
  const [, word, style] = LEVELS.find(([least]) => (line.level ?? 30) >= least)!;
  const time = line.time === undefined ? "" : clockTime(Date.parse(line.time), nowMs);
  const head = `${page.style("dim", time)} ${page.style(style, pad(word, 5))} ${pad(plain(line.service ?? ""), SERVICE_WIDTH)}`;
  return `${head} ${[deedOf(page, line), restOf(page, line), idOf(page, line)].filter((part) => part !== "").join(" ")}`;
}

function parse(text: string): Parsed | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    // The last words of a process that crashed.
    return undefined;
  }
}

function deedOf(page: Page, line: Parsed): string {
  const cause = typeof line.err === "string" ? line.err : line.err?.message;
  const message = [line.msg, cause !== undefined && !line.msg?.includes(cause) ? cause : undefined]
    .filter((part) => part !== undefined)
    .join(": ");
  if (line.operation === undefined) return plain(message) + (line.code === undefined ? "" : ` (${plain(line.code)})`);
  const { status } = line;
  // Words about an operation, not its end.
  if (status === undefined)
    return `${plain(line.operation)}: ${plain(message)}${line.code === undefined ? "" : ` (${plain(line.code)})`}`;
  const shown = page.style(status >= 500 ? "red" : status >= 400 ? "yellow" : "green", String(status));
  const took = line.ms === undefined ? "" : ` ${duration(line.ms)}`;
  const from = line.caller ? page.style("dim", ` from ${plain(line.caller)}`) : "";
  return `${plain(line.operation)} ${shown}${took}${from}${line.code === undefined ? "" : ` ${plain(line.code)}`}${message === "" ? "" : ` ${plain(message)}`}`;
}

/** What else the line says, as key=value. */
function restOf(page: Page, line: Parsed): string {
  return Object.entries(line)
    .filter(([key]) => !PLACED.has(key) && (page.width >= ROOMY || !MINOR.has(key)))
    .filter(([, value]) => value !== undefined && value !== null && value !== "")
    .map(([key, value]) => `${plain(key)}=${plain(typeof value === "object" ? JSON.stringify(value) : String(value))}`)
    .join(" ");
}

const idOf = (page: Page, { requestId }: Parsed): string =>
  requestId === undefined
    ? ""
    : page.style("dim", page.width >= ROOMY ? plain(requestId) : plain(requestId).slice(0, ID_SHORT));
