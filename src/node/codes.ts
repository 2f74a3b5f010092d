/** The node's own error codes, apart from its contract: a start that only hands over loads no schemas. */
import { code } from "../kernel/error.ts";

export const NODE_NOT_RUNNING = code(
  "NODE_NOT_RUNNING",
  "unavailable",
  "Start the node: 'npm start' or 'holdfast start'.",
);
export const NODE_STATE_LOCKED = code(
  "NODE_STATE_LOCKED",
  "conflict",
  "Another node runs on this state directory; stop it, or choose another with HOLDFAST_STATE.",
);
export const NODE_STATE_UNUSABLE = code(
  "NODE_STATE_UNUSABLE",
  "forbidden",
  "Make the state directory writable for this user alone, or choose another with HOLDFAST_STATE.",
);
export const NODE_STATE_NEWER = code(
  "NODE_STATE_NEWER",
  "conflict",
  "Run the Holdfast version that the message names, or a newer one; this one would damage the state.",
);
export const NODE_STATE_FULL = code(
  "NODE_STATE_FULL",
  "full",
  "Free some space on the disk that the message names, then start again; nothing that was acknowledged is lost.",
);
export const NODE_CACHE_UNUSABLE = code(
  "NODE_CACHE_UNUSABLE",
  "forbidden",
  "Make the directory that the message names writable for this user alone, or choose another with HOLDFAST_CACHE.",
);
export const NODE_START_FAILED = code(
  "NODE_START_FAILED",
  "unavailable",
  "Read the lines above, or 'holdfast logs'; correct what they name and start again.",
);
export const NODE_RESTART_FAILED = code(
  "NODE_RESTART_FAILED",
  "unavailable",
  "Read the reason in the message, or 'holdfast logs'; correct it and restart again. Services that were not reached run on.",
);
export const NODE_SERVICE_UNKNOWN = code(
  "NODE_SERVICE_UNKNOWN",
  "not-found",
  "Take a name that 'holdfast status' lists.",
);
export const NODE_RESTART_RUNNING = code(
  "NODE_RESTART_RUNNING",
  "conflict",
  "Another 'holdfast restart' is under way; wait for its end.",
);
export const NODE_OPTION_INVALID = code("NODE_OPTION_INVALID", "invalid", "See 'holdfast start --help'.");
