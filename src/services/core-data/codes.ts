/** Error codes of core-data, shared by its nouns. */
import { code } from "../../kernel/error.ts";

export const DATA_EVENT_UNKNOWN = code(
  "DATA_EVENT_UNKNOWN",
  "not-found",
  "Check the event's or reading's id; it may have aged out (docs/retention.md).",
);
export const DATA_EVENT_MISMATCHED = code(
  "DATA_EVENT_MISMATCHED",
  "invalid",
  "Let profile, device and source in the path equal those in the event.",
);
export const DATA_EVENT_DUPLICATE = code(
  "DATA_EVENT_DUPLICATE",
  "conflict",
  "The event is already there; give a new one a new id.",
);
export const DATA_RANGE = code("DATA_RANGE", "range", "Ask for an offset within totalCount.");
export const DATA_TIME_INVALID = code(
  "DATA_TIME_INVALID",
  "invalid",
  "Give start and end in nanoseconds since 1970, start not after end.",
);
