import { code } from "../error.ts";

export const JOURNAL_FULL = code(
  "JOURNAL_FULL",
  "full",
  "Let the followers catch up (then old segments go by themselves) or allow the journal a larger sizeBytesMax.",
);
export const JOURNAL_LOCKED = code(
  "JOURNAL_LOCKED",
  "locked",
  "Stop the other process that has this journal open; the message names it.",
);
export const JOURNAL_DISK_FULL = code(
  "JOURNAL_DISK_FULL",
  "full",
  "Free space on the disk; appends work again by themselves as soon as there is some.",
);
export const JOURNAL_SYNC_FAILED = code(
  "JOURNAL_SYNC_FAILED",
  "unavailable",
  "The disk did not confirm a write: look at the kernel's log, then restart the service.",
);
export const JOURNAL_KEY_WRONG = code(
  "JOURNAL_KEY_WRONG",
  "forbidden",
  "Give the data key that this journal was made with; nothing was changed.",
);
export const JOURNAL_VERSION_NEWER = code(
  "JOURNAL_VERSION_NEWER",
  "not-implemented",
  "Start the version of Holdfast that wrote this journal, or a later one; nothing was changed.",
);
export const JOURNAL_RECORD_TOO_LARGE = code(
  "JOURNAL_RECORD_TOO_LARGE",
  "too-large",
  "Split the record; the message names the limit.",
);
export const JOURNAL_CLOSED = code("JOURNAL_CLOSED", "unavailable", "Open the journal again.");
export const JOURNAL_DIRECTORY_UNUSABLE = code(
  "JOURNAL_DIRECTORY_UNUSABLE",
  "unavailable",
  "Make the directory writable for the service's user, or name another one.",
);
