/** What services say on their lines to the node itself, and what it answers. */
import type { Log } from "../kernel/log.ts";
import type { LineMessage } from "./hello.ts";
import type { KeyDesk } from "./keys/desk.ts";
import type { Life } from "./life.ts";
import type { Logbook } from "./logbook.ts";

interface Needs {
  readonly keys: KeyDesk;
  readonly logbook: Logbook;
  readonly log: Log;
}

/** The one that may read the log book: it sends lines on where a destination's config says so. */
const READER = "pipeline";

/** Makes the listener; `service` of a line is the process's own, the supervisor has seen to that. */
export const listening =
  ({ keys, logbook, log }: Needs) =>
  (life: Pick<Life, "send">, { service, name, message }: LineMessage): void => {
    if (name === "key") return keys.took(service, message);
    if (name !== "logs" || service !== READER) return;
    const { ask, after } = message;
    if (!Number.isSafeInteger(after) || (after as number) < 0) return;
    logbook.after(after as number).then(
      (page) => life.send({ kind: "line", service, name, message: { ...page, ask } }),
      // Who asks has no answer, and asks again.
      (error: unknown) => log.debug({ err: error }, "the log book could not be read for the pipeline"),
    );
  };
