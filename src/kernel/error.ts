/**
 * Errors of the house: a stable code, a message for people, what to do about it. A code is declared once, beside the
 * contract that may answer it (`code(...)`), thrown with `fail(...)`, and becomes an HTTP status only here.
 */

/** What sort of failure it is; decides the HTTP status. The pairs are EdgeX's where EdgeX has the case (FACTS: error kinds). */
const STATUS = {
  invalid: 400,
  unauthorized: 401,
  forbidden: 403,
  "not-found": 404,
  "not-allowed": 405,
  conflict: 409,
  gone: 410,
  "too-large": 413,
  "media-type": 415,
  range: 416,
  misdirected: 421,
  locked: 423,
  limited: 429,
  internal: 500,
  "not-implemented": 501,
  communication: 502,
  unavailable: 503,
  deadline: 504,
  full: 507,
} as const;

export type ErrorKind = keyof typeof STATUS;

/** A declared error: `code` is stable for ever, `todo` tells the reader what to do. */
export interface ErrorCode {
  readonly code: string;
  readonly kind: ErrorKind;
  readonly todo: string;
}

const declared = new Map<string, ErrorCode>();

/** Declares an error code (SCREAMING_SNAKE, prefixed by its room). A second declaration with other words is a bug and throws. */
export function code(name: string, kind: ErrorKind, todo: string): ErrorCode {
  const known = declared.get(name);
  if (known && (known.kind !== kind || known.todo !== todo)) throw new Error(`error code ${name} is declared twice`);
  const made = known ?? Object.freeze({ code: name, kind, todo });
  declared.set(name, made);
  return made;
}

/** An error with a stable code. Made by `fail`, or from the wire by `connect`. */
export class Failure extends Error {
  readonly code: string;
  readonly kind: ErrorKind;
  readonly todo: string;
  /** Seconds after which a retry is welcome (Retry-After), where the thrower knows. */
  readonly retryAfterS?: number;

  constructor(error: ErrorCode, message: string, options?: { cause?: unknown; retryAfterS?: number }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.name = "Failure";
    this.code = error.code;
    this.kind = error.kind;
    this.todo = error.todo;
    if (options?.retryAfterS !== undefined) this.retryAfterS = options.retryAfterS;
  }

  get status(): number {
    return STATUS[this.kind];
  }
}

/** Makes the failure of a declared code; use as `throw fail(CODE, "device 'x' is unknown")`. */
export const fail = (error: ErrorCode, message: string, options?: { cause?: unknown; retryAfterS?: number }): Failure =>
  new Failure(error, message, options);

/** Turns whatever was caught into a Failure: a Failure stays itself, all else is KERNEL_INTERNAL with the cause kept. */
export function asFailure(caught: unknown): Failure {
  if (caught instanceof Failure) return caught;
  if (caught instanceof Error && caught.name === "AbortError")
    return fail(DEADLINE, "the call was abandoned", { cause: caught });
  return fail(INTERNAL, "an internal error happened; the log line with this request id has the details", {
    cause: caught,
  });
}

/** Finds the kind that a status on the wire stands for (a client meets codes of newer versions). */
export function kindOfStatus(status: number): ErrorKind {
  for (const [kind, value] of Object.entries(STATUS)) if (value === status) return kind as ErrorKind;
  return status >= 500 ? "communication" : "invalid";
}

export const INTERNAL = code(
  "KERNEL_INTERNAL",
  "internal",
  "Look up the request id in the service's log and report it.",
);
export const UNAVAILABLE = code(
  "UNAVAILABLE",
  "unavailable",
  "Try again shortly; 'holdfast status' tells which service is down.",
);
export const DEADLINE = code("DEADLINE", "deadline", "Try again, or allow more time.");
export const INPUT_INVALID = code("INPUT_INVALID", "invalid", "Correct the field that the message names.");
export const INPUT_MALFORMED = code(
  "INPUT_MALFORMED",
  "invalid",
  "Send a well-formed body of the content type that the request names.",
);
export const INPUT_TOO_LARGE = code("INPUT_TOO_LARGE", "too-large", "Send less at once; the message names the limit.");
export const ANSWER_TOO_LARGE = code(
  "ANSWER_TOO_LARGE",
  "communication",
  "Ask for less at once (limit, a shorter time range); the message names the limit.",
);
export const INPUT_TOO_DEEP = code(
  "INPUT_TOO_DEEP",
  "invalid",
  "Nest the body less deeply; the message names the limit.",
);
export const MEDIA_TYPE_UNKNOWN = code(
  "MEDIA_TYPE_UNKNOWN",
  "media-type",
  "Send application/json or application/cbor.",
);
export const ROUTE_UNKNOWN = code(
  "ROUTE_UNKNOWN",
  "not-found",
  "Check method and path against the service's contract.",
);
export const CALLER_REFUSED = code(
  "CALLER_REFUSED",
  "forbidden",
  "Only the callers that the contract names may call this operation.",
);
export const INSTANCE_MISDIRECTED = code(
  "INSTANCE_MISDIRECTED",
  "misdirected",
  "Resolve the service again and repeat the call.",
);
