/**
 * A contract says once what a service is: its operations, who may call them, what they answer, how they fail. Routes,
 * validation, clients, OpenAPI, the gateway's default routes and the sandbox's ports derive from this value.
 */
import { createHash } from "node:crypto";
import type { Static, TObject, TSchema } from "typebox";
import type { Call } from "./call.ts";
import type { ErrorCode } from "./error.ts";

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
export type Fields = Readonly<Record<string, TSchema>>;

/** How the gateway offers an operation to people and other outsiders. */
export interface Public {
  /** What a token must hold, e.g. `reading:read`; the gateway refuses others with 403. */
  readonly scope: string;
  readonly timeoutMs?: number;
  /** `safe`: may be repeated at another instance when the first did not answer. GET is safe by itself. */
  readonly retry?: "safe" | "never";
}

export interface OperationSpec<I extends Fields, O extends TSchema> {
  /**
   * Everything the operation takes, flat. A field named in the path comes from there, `body` is the request's body, every
   * other one is a query parameter (under its name in `wire`, where the wire calls it differently).
   */
  readonly input: I;
  readonly output: O;
  readonly wire?: Readonly<Record<string, string>>;
  /** Status of success; 200 unless said. */
  readonly status?: number;
  readonly errors?: readonly ErrorCode[];
  /** Services (by certificate) that may call it. The gateway may call whatever is public, `--open-edgex` listeners too. */
  readonly callers?: readonly string[];
  readonly public?: Public;
  /** Default 1 MiB; a larger body is refused with INPUT_TOO_LARGE before it is read. */
  readonly bodyBytesMax?: number;
  /** Default 16 MiB; a longer answer is cut off by the client with ANSWER_TOO_LARGE. A stream has FRAME_BYTES_MAX a frame. */
  readonly answerBytesMax?: number;
  /** How long a caller waits unless it says otherwise; default 5,000. */
  readonly timeoutMs?: number;
  /** Called all the time by the house itself (renewals, confirmations): logged at debug and not traced unless it fails. */
  readonly quiet?: boolean;
  /** One sentence that starts with a verb, for OpenAPI and `--help`. */
  readonly summary?: string;
  /** Names the state of what is answered; it becomes the ETag, and who has it already gets 304 (RFC 9110 13.1.2). */
  etag?(output: Static<O>): string;
  /** Sends the output as it is, without `apiVersion` and `statusCode` (for contracts with `edgex: true`). */
  readonly bare?: boolean;
}

export interface Operation<
  I extends Fields = Fields,
  O extends TSchema = TSchema,
  K extends "value" | "stream" = "value" | "stream",
> extends OperationSpec<I, O> {
  readonly kind: K;
  readonly method: Method;
  readonly path: string;
}

export interface Contract<Ops extends Readonly<Record<string, Operation>> = Readonly<Record<string, Operation>>> {
  /** The service key, EdgeX's where EdgeX has the service. */
  readonly name: string;
  /** Speaks EdgeX's wire: JSON keys in any case, `apiVersion` and `statusCode` in every answer. */
  readonly edgex: boolean;
  /** EdgeX's port, opened on loopback by `--open-edgex`. */
  readonly edgexPort?: number;
  readonly operations: Ops;
}

type Handler<Op> =
  Op extends Operation<infer I, infer O, infer K>
    ? K extends "stream"
      ? (input: Static<TObject<I>>, call: Call) => AsyncIterable<Static<O>>
      : (input: Static<TObject<I>>, call: Call) => Promise<Static<O>>
    : never;

/** The service of a contract; its client has the same type. */
export type Service<C extends Contract> = { readonly [K in keyof C["operations"]]: Handler<C["operations"][K]> };

/** What an operation of a contract gives. */
export type Output<C extends Contract, K extends keyof C["operations"]> = Static<C["operations"][K]["output"]>;

/** States a contract. `edgex` gives EdgeX's manners on the wire. */
export function contract<const Ops extends Readonly<Record<string, Operation>>>(
  name: string,
  operations: Ops,
  options: { edgex?: boolean; edgexPort?: number } = {},
): Contract<Ops> {
  return {
    name,
    operations,
    edgex: options.edgex ?? false,
    ...(options.edgexPort ? { edgexPort: options.edgexPort } : {}),
  };
}

const value =
  (method: Method) =>
  <I extends Fields, O extends TSchema>(path: string, spec: OperationSpec<I, O>): Operation<I, O, "value"> => ({
    ...spec,
    kind: "value",
    method,
    path,
  });

export const get = value("GET");
export const post = value("POST");
export const put = value("PUT");
export const patch = value("PATCH");
export const del = value("DELETE");

/** States an operation whose answer is a stream of items of the `output` schema; POST, since its input may be large. */
export const stream = <I extends Fields, O extends TSchema>(
  path: string,
  spec: OperationSpec<I, O>,
): Operation<I, O, "stream"> => ({
  ...spec,
  kind: "stream",
  method: "POST",
  path,
});

/** Where each input field travels. */
export interface Placement {
  readonly params: readonly string[];
  readonly query: readonly { readonly field: string; readonly wire: string }[];
  readonly body: boolean;
}

/** Tells where an operation's fields travel: the path, the query, the body. Streams take all in the body. */
export function placementOf(op: Operation): Placement {
  const params = [...op.path.matchAll(/:([A-Za-z]+)/g)].map((m) => m[1]);
  const rest = Object.keys(op.input).filter((f) => !params.includes(f) && f !== "body");
  return {
    params,
    query: rest.map((field) => ({ field, wire: op.wire?.[field] ?? field })),
    body: "body" in op.input,
  };
}

const DIGEST_LENGTH = 16;

/** Derives 16 hex digits that differ where two contracts do, in whatever they say of the wire. */
export const digestOf = (c: Contract): string =>
  createHash("sha256").update(JSON.stringify(c)).digest("hex").slice(0, DIGEST_LENGTH);

/** A route as the gateway needs it; published by a service with its registration. */
export interface Route {
  readonly method: Method;
  readonly path: string;
  readonly scope: string;
  readonly timeoutMs: number;
  readonly safe: boolean;
  readonly operation: string;
}

/** Derives the routes a service offers to outsiders. */
export function routesOf(c: Contract): Route[] {
  return Object.entries(c.operations).flatMap(([operation, op]) =>
    op.public
      ? [
          {
            method: op.method,
            path: op.path,
            scope: op.public.scope,
            timeoutMs: op.public.timeoutMs ?? op.timeoutMs ?? DEFAULT_TIMEOUT_MS,
            safe: op.public.retry ? op.public.retry === "safe" : op.method === "GET",
            operation,
          },
        ]
      : [],
  );
}

export const DEFAULT_TIMEOUT_MS = 5_000;
export const DEFAULT_BODY_BYTES_MAX = 1_048_576;
/** More than any page of 1,024 readings or events of ours; it bounds what a service that went wrong does to its callers. */
export const DEFAULT_ANSWER_BYTES_MAX = 16_777_216;
