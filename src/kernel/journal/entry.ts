/** What may be appended. */
import { fail, type Failure, INPUT_INVALID } from "../error.ts";
import { JOURNAL_RECORD_TOO_LARGE } from "./errors.ts";
import type { Entry } from "./records.ts";

/** A larger payload is refused with JOURNAL_RECORD_TOO_LARGE. */
const RECORD_BYTES_MAX = 4 * 1024 * 1024;
/** A longer key, in bytes of UTF-8, is refused with JOURNAL_RECORD_TOO_LARGE. */
const KEY_BYTES_MAX = 1024;

/** Tells why an entry is not taken: INPUT_INVALID, JOURNAL_RECORD_TOO_LARGE. */
export function refusalOf({ kind, key, payload }: Entry): Failure | undefined {
  if (!Number.isInteger(kind) || kind < 0 || kind > 255)
    return fail(INPUT_INVALID, `kind ${kind} of a journal record is not within 0..255`);
  if (payload.byteLength > RECORD_BYTES_MAX)
    return fail(
      JOURNAL_RECORD_TOO_LARGE,
      `a record of ${payload.byteLength} bytes is over the limit of ${RECORD_BYTES_MAX}`,
    );
  // UTF-8 takes at most three bytes per unit of a JavaScript string.
  if (key.length * 3 > KEY_BYTES_MAX && Buffer.byteLength(key) > KEY_BYTES_MAX)
    return fail(
      JOURNAL_RECORD_TOO_LARGE,
      `a key of ${Buffer.byteLength(key)} bytes is over the limit of ${KEY_BYTES_MAX}`,
    );
  if (!key.isWellFormed()) return fail(INPUT_INVALID, "the key of a journal record is not well-formed Unicode");
  return undefined;
}
