/** How a gRPC call ended, and what HTTP calls that (google/rpc/code.proto). */

/** By number: the name, and the status that it stands for. */
const CODES: readonly (readonly [name: string, status: number])[] = [
  ["OK", 200],
  ["CANCELLED", 499],
  ["UNKNOWN", 500],
  ["INVALID_ARGUMENT", 400],
  ["DEADLINE_EXCEEDED", 504],
  ["NOT_FOUND", 404],
  ["ALREADY_EXISTS", 409],
  ["PERMISSION_DENIED", 403],
  ["RESOURCE_EXHAUSTED", 429],
  ["FAILED_PRECONDITION", 400],
  ["ABORTED", 409],
  ["OUT_OF_RANGE", 400],
  ["UNIMPLEMENTED", 501],
  ["INTERNAL", 500],
  ["UNAVAILABLE", 503],
  ["DATA_LOSS", 500],
  ["UNAUTHENTICATED", 401],
];
const UNKNOWN = 2;
/** Of the service's inside: what it says of them stays there. */
const INSIDE: ReadonlySet<string> = new Set(["UNKNOWN", "INTERNAL", "DATA_LOSS"]);
const MESSAGE_LENGTH_MAX = 1_000;

export class GrpcStatus extends Error {
  override readonly name: string;
  readonly http: number;
  /** Nothing of the inside in it. */
  readonly said: string;

  constructor(number: number, message: string) {
    super(message);
    const [name, http] = CODES[number] ?? CODES[UNKNOWN];
    this.name = name;
    this.http = http;
    this.said = INSIDE.has(name) ? "the service failed" : message.slice(0, MESSAGE_LENGTH_MAX);
  }

  get isOk(): boolean {
    return this.name === "OK";
  }
}

/** Reads the trailers of a call (or its only headers); UNKNOWN where they do not say how it ended. */
export function statusIn(trailers: Readonly<Record<string, unknown>>): GrpcStatus {
  const code = trailers["grpc-status"];
  const message = trailers["grpc-message"];
  if (typeof code !== "string" || !/^\d{1,2}$/.test(code)) return new GrpcStatus(UNKNOWN, "the call has no status");
  return new GrpcStatus(Number(code), typeof message === "string" ? decoded(message) : "");
}

/** Percent-encoded; what is broken is left as it came, as the protocol says. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // Not percent-encoded UTF-8: some servers write what they like.
    return text;
  }
}
