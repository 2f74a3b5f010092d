/** Logs: JSON lines by pino to one synchronous destination, so that a kill loses none; every line names its service. */
import { type DestinationStream, pino } from "pino";
import { requestHere } from "./during.ts";
import { LineFile } from "./line-file.ts";

export type Log = Pick<pino.Logger, "debug" | "info" | "warn" | "error" | "fatal" | "isLevelEnabled"> & {
  child(bindings: object): Log;
};
export type LogLevel = "debug" | "info" | "warn" | "error";

/** Keys whose values never reach a log line, wherever a caller put them. */
const SECRET_KEYS: ReadonlySet<string> = new Set([
  "token",
  "secret",
  "password",
  "passphrase",
  "authorization",
  "joinSecret",
  "dataKey",
  "keyPem",
  "apiKey",
]);
const CENSOR = "[secret]";

/** Makes the log of a service; `to` is a file descriptor (1 unless said) or, in tests, a stream. */
export function makeLog(service: string, options: { level?: LogLevel; to?: number | DestinationStream } = {}): Log {
  const to = options.to ?? 1;
  const destination = typeof to === "number" ? new LineFile(to) : to;
  const log = pino(
    {
      level: options.level ?? "info",
      base: { service },
      // Of a line's cost pino's own redaction would be the half, pino's own destination the most of the rest.
      formatters: { log: (values) => censored(withRequest(values)) },
      serializers: { err: (error: Error) => withoutSecrets(pino.stdSerializers.err(error)) },
      timestamp: () => isoTime(Date.now()),
    },
    destination,
  );
  // Children have it from here, and so do theirs.
  const pinoChild = Reflect.get(log, "child") as (this: Log, bindings: object) => Log;
  return Object.assign(log, {
    child(this: Log, bindings: object): Log {
      return pinoChild.call(this, censored(bindings));
    },
  });
}

type Values = Record<string, unknown>;

/** Every line has the id that is written while a request is worked on; what the caller says itself counts. */
function withRequest(values: object): object {
  if ("requestId" in values) return values;
  const requestId = requestHere();
  return requestId === undefined ? values : { requestId, ...values };
}

const MS_PER_S = 1_000;
let second = Number.NaN;
let secondText = "";

/** Writes the time of a line; of all but its milliseconds a busy service's lines have the same. */
function isoTime(nowMs: number): string {
  const now = Math.floor(nowMs / MS_PER_S);
  if (now !== second) {
    second = now;
    secondText = `,"time":"${new Date(now * MS_PER_S).toISOString().slice(0, -4)}`;
  }
  return `${secondText}${String(nowMs - now * MS_PER_S).padStart(3, "0")}Z"`;
}

/** Gives the values without secrets, one level deep: the very object where there is none. */
function censored(values: object): Values {
  let copy: Values | undefined;
  for (const [key, value] of Object.entries(values as Values)) {
    // An error is written out first.
    const shown = SECRET_KEYS.has(key) ? CENSOR : key === "err" ? value : withoutSecrets(value);
    if (shown !== value) (copy ??= { ...values })[key] = shown;
  }
  return copy ?? (values as Values);
}

function withoutSecrets(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const secret = Object.keys(value).filter((key) => SECRET_KEYS.has(key));
  if (secret.length === 0) return value;
  return { ...value, ...Object.fromEntries(secret.map((key) => [key, CENSOR])) };
}

/**
 * Writes a line of fields that are written out already (`"a":1,"b":"c"`, no secrets): for what is said of every request, where the
 * rest of a line's cost would be the half. Goes out with the others of this turn of the event loop. Who writes them out asks
 * before whether the level is enabled.
 */
export function logFields(log: Log, level: "debug" | "info", fields: string): void {
  const bindings = Reflect.get(log, pino.symbols.chindingsSym) as string;
  const to = Reflect.get(log, pino.symbols.streamSym) as DestinationStream;
  const line = `{"level":${pino.levels.values[level]}${isoTime(Date.now())}${bindings},${fields}}\n`;
  if (to instanceof LineFile) to.writeSoon(line);
  else to.write(line);
}

/** Of a text that stands in a line as it is. */
const PLAIN = /^[ !#-[\]-~]*$/;

/** Writes a text as JSON. */
export const jsonOf = (text: string): string => (PLAIN.test(text) ? `"${text}"` : JSON.stringify(text));
