/** Logs: JSON lines by pino to one synchronous destination, so that a kill loses none; every line names its service. */
import { type DestinationStream, pino } from "pino";

export type Log = Pick<pino.Logger, "debug" | "info" | "warn" | "error" | "fatal" | "isLevelEnabled"> & {
  child(bindings: object): Log;
};
export type LogLevel = "debug" | "info" | "warn" | "error";

/** Keys whose values never reach a log line, wherever a caller put them. */
const SECRET_KEYS = [
  "token",
  "secret",
  "password",
  "passphrase",
  "authorization",
  "joinSecret",
  "dataKey",
  "keyPem",
  "apiKey",
];

/** Makes the log of a service; `to` is a file descriptor (1 unless said) or, in tests, a stream. */
export function makeLog(service: string, options: { level?: LogLevel; to?: number | DestinationStream } = {}): Log {
  const to = options.to ?? 1;
  const redact = { paths: SECRET_KEYS.flatMap((k) => [k, `*.${k}`]), censor: "[secret]" };
  const destination = typeof to === "number" ? pino.destination({ dest: to, sync: true }) : to;
  return pino(
    { level: options.level ?? "info", base: { service }, redact, timestamp: pino.stdTimeFunctions.isoTime },
    destination,
  );
}
