/** What the bytes of events and columns may be at the most, and what they fail with. */
import { code, fail } from "../error.ts";

export const EVENTS_MALFORMED = code(
  "EVENTS_MALFORMED",
  "invalid",
  "Send events in the form of src/kernel/events; these bytes are damaged or of another program.",
);
export const EVENTS_TOO_LARGE = code(
  "EVENTS_TOO_LARGE",
  "too-large",
  "Send fewer or smaller events at once; the message names the limit.",
);

/** Bytes of one encoded message of events; more is EVENTS_TOO_LARGE when written and EVENTS_MALFORMED when read. */
export const EVENTS_BYTES_MAX = 4 * 1024 * 1024;

/** Bytes that the compressed parts of one message may grow to; a writer leaves uncompressed what would exceed it. */
export const INFLATED_BYTES_MAX = 32 * 1024 * 1024;

/** Makes the failure of bytes that no writer of ours wrote. */
export const malformed = (what: string) => fail(EVENTS_MALFORMED, `malformed events: ${what}`);

/** A varint has seven bits a byte: a byte from here on says that another follows. */
export const DIGIT = 128;
/** Bits that are shifted at once: more would not fit beside what is pending. */
export const SPLIT_BITS = 24;
export const SPLIT = 2 ** SPLIT_BITS;
