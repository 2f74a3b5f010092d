/** Makes the client of a contract: to its caller it is the service itself. */
import type { Agent, IncomingMessage, RequestOptions } from "node:http";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { type Call, leftMs, traceparent, whenOver } from "./call.ts";
import { placed } from "./check.ts";
import {
  type Contract,
  DEFAULT_ANSWER_BYTES_MAX,
  DEFAULT_TIMEOUT_MS,
  type Operation,
  type Service,
} from "./contract.ts";
import { callerOf } from "./during.ts";
import { ANSWER_TOO_LARGE, asFailure, DEADLINE, Failure, fail, INSTANCE_MISDIRECTED, UNAVAILABLE } from "./error.ts";
import { digestKept, type Names, termsOf } from "./names.ts";
import { nanosOf } from "./nanos.ts";
import { retryAfterOf } from "./retry-after.ts";
import type { JSON_TYPE } from "./wire.ts";
import { CBOR_TYPE, decodeBody, decodeFrames, encodeBody, failureFromWire, HEADER } from "./wire.ts";

/** One instance of a service, and the connections to it. */
export interface Target {
  readonly instance?: string;
  /** Of the instance's contract, as it registered it. */
  readonly digest?: string | undefined;
  readonly host: string;
  readonly port: number;
  /** Keep-alive connections; an https agent of our identity, or a plain one for `--open-edgex` device services. */
  readonly agent: Agent;
  readonly secure: boolean;
  readonly socketPath?: string;
}

/** Finds instances by name; cached, so that a call never waits for a lookup. */
export interface Resolver {
  pick(service: string): Target | Promise<Target>;
  /** Told when a target did not answer, so that the next pick avoids it. */
  failed(service: string, target: Target): void;
}

export interface ConnectOptions {
  readonly resolver: Resolver;
  /** Before the path, e.g. `/core-data` through the gateway. */
  readonly basePath?: string;
  /** Body encoding: CBOR between our services, JSON for strangers. */
  readonly encoding?: typeof CBOR_TYPE | typeof JSON_TYPE;
  /** Further headers, e.g. a person's token. */
  readonly headers?: () => Record<string, string>;
}

/** A connection refused, reset before an answer, or an instance that is not the one meant: another may be tried. */
const TRIES_MAX = 3;
/** A stream without a sign of life for so long is cut (the server pings every second). */
const STREAM_SILENCE_MS = 5_000;

/** A failure is a code and some sentences; of one that is longer only the status is told. */
const FAILURE_BYTES_MAX = 65_536;

/** Makes the client of a contract. Calls fail with the service's codes, UNAVAILABLE or DEADLINE. */
export function connect<C extends Contract>(contract: C, options: ConnectOptions): Service<C> {
  const client: Record<string, unknown> = {};
  for (const [name, op] of Object.entries(contract.operations)) {
    client[name] =
      op.kind === "stream"
        ? (input: Record<string, unknown>, call: Call) => openStream(contract, op, options, input, call)
        : (input: Record<string, unknown>, call: Call) => callValue(contract, op, options, input, call);
  }
  return client as Service<C>;
}

async function callValue(
  contract: Contract,
  op: Operation,
  options: ConnectOptions,
  input: Record<string, unknown>,
  call: Call,
): Promise<unknown> {
  const response = await exchange(
    contract,
    op,
    options,
    input,
    call,
    Math.min(leftMs(call), op.timeoutMs ?? DEFAULT_TIMEOUT_MS),
  );
  const bytesMax = op.answerBytesMax ?? DEFAULT_ANSWER_BYTES_MAX;
  const bytes = await bytesOf(response, bytesMax).catch((error: unknown) => {
    throw asTransport(error, contract, op);
  });
  if (!bytes)
    throw fail(ANSWER_TOO_LARGE, `${contract.name} answered ${op.method} ${op.path} with more than ${bytesMax} bytes`);
  return bytes.length === 0
    ? undefined
    : nanosOf(
        op.output,
        decodeBody(bytes, response.headers["content-type"], () => spokenIn(contract, op)),
      );
}

const spokenIn = (contract: Contract, op: Operation) => {
  const { type, answer } = termsOf(contract, op);
  return { type, names: answer };
};

/** Reads an answer; undefined, and no more of it is read, where it is longer than `bytesMax`. */
async function bytesOf(response: IncomingMessage, bytesMax: number): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    // Leaving the loop ends the connection.
    if (size > bytesMax) return undefined;
    chunks.push(chunk);
  }
  return chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
}

async function* openStream(
  contract: Contract,
  op: Operation,
  options: ConnectOptions,
  input: Record<string, unknown>,
  call: Call,
): AsyncGenerator {
  const response = await exchange(contract, op, options, input, call, Number.POSITIVE_INFINITY);
  const hangUp = () => response.destroy();
  // What was aborted while the answer's head was on its way is over, too.
  const stop = whenOver(call, hangUp);
  // The answer has none any more once it has ended.
  const { socket } = response;
  socket.setTimeout(STREAM_SILENCE_MS, hangUp);
  try {
    const { answer, framesType } = termsOf(contract, op);
    yield* decodeFrames(response, response.headers["content-type"] === framesType ? answer : undefined);
  } catch (error) {
    if (call.signal.aborted) return;
    throw error instanceof Failure
      ? error
      : fail(UNAVAILABLE, `the stream from ${contract.name} broke`, { cause: error });
  } finally {
    stop();
    // A stream that the server ended leaves its connection to the next call, which is no stream.
    socket.off("timeout", hangUp).setTimeout(0);
    response.destroy();
  }
}

/** Sends the request and waits for the head of the answer; an answer that is a failure is thrown. */
async function exchange(
  contract: Contract,
  op: Operation,
  options: ConnectOptions,
  input: Record<string, unknown>,
  call: Call,
  timeoutMs: number,
): Promise<IncomingMessage> {
  for (let tries = 1; ; tries++) {
    const picked = options.resolver.pick(contract.name);
    const target = picked instanceof Promise ? await pickInTime(contract, picked, call, timeoutMs) : picked;
    try {
      const response = await sendOnce(contract, op, options, input, call, target, Math.min(timeoutMs, leftMs(call)));
      if ((response.statusCode ?? 500) < 300) return response;
      throw await failureOf(response);
    } catch (error) {
      const failure = asTransport(error, contract, op);
      const elsewhere =
        failure.code === INSTANCE_MISDIRECTED.code || (failure.code === UNAVAILABLE.code && wasNotTaken(error, op));
      if (failure.code === UNAVAILABLE.code || elsewhere) options.resolver.failed(contract.name, target);
      if (!elsewhere || tries === TRIES_MAX || call.signal.aborted) throw failure;
    }
  }
}

/** Waits for an instance to come up, no longer than the call may last. */
async function pickInTime(contract: Contract, picked: Promise<Target>, call: Call, timeoutMs: number): Promise<Target> {
  let stop: (() => void) | undefined;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const end = () => reject(fail(DEADLINE, `no instance of ${contract.name} came up in time`));
    if (Number.isFinite(timeoutMs)) timer = setTimeout(end, Math.max(1, timeoutMs));
    stop = whenOver(call, end);
  });
  try {
    return await Promise.race([picked, late]);
  } finally {
    clearTimeout(timer);
    stop?.();
  }
}

function sendOnce(
  contract: Contract,
  op: Operation,
  options: ConnectOptions,
  input: Record<string, unknown>,
  call: Call,
  target: Target,
  timeoutMs: number,
): Promise<IncomingMessage> {
  const encoding = options.encoding ?? CBOR_TYPE;
  const terms = encoding === CBOR_TYPE && isSame(contract, target) ? termsOf(contract, op) : undefined;
  const { path, body } = placeInput(op, input, options, terms?.body);
  const type = terms?.type ?? encoding;
  const headers: Record<string, string | number> = {
    accept: type,
    [HEADER.traceparent]: traceparent(callerOf(call)),
    // Our own know it from the traceparent.
    ...(terms ? {} : { [HEADER.correlationId]: call.requestId }),
    ...options.headers?.(),
  };
  if (Number.isFinite(timeoutMs)) headers[HEADER.timeout] = Math.max(1, Math.ceil(timeoutMs));
  if (target.instance) headers[HEADER.instance] = target.instance;
  if (body !== undefined) {
    headers["content-type"] = type;
    headers["content-length"] = typeof body === "string" ? Buffer.byteLength(body) : body.length;
  }
  return new Promise((resolve, reject) => {
    const where = target.socketPath ? { socketPath: target.socketPath } : { host: target.host, port: target.port };
    const request: RequestOptions = { ...where, agent: target.agent, method: op.method, path, headers };
    const sent = (target.secure ? httpsRequest : httpRequest)(request);
    const onAbort = () => sent.destroy(fail(DEADLINE, `${contract.name} was not waited for any longer`));
    const late = () =>
      sent.destroy(
        fail(DEADLINE, `${contract.name} did not answer ${op.method} ${op.path} within ${Math.round(timeoutMs)} ms`),
      );
    const timer = Number.isFinite(timeoutMs) ? setTimeout(late, Math.max(1, timeoutMs)) : undefined;
    // What is over already is destroyed here, and tells so by "error" a tick later.
    const stop = whenOver(call, onAbort);
    const done = () => {
      clearTimeout(timer);
      stop();
    };
    sent.once("response", (response) => {
      // The deadline holds until the last byte of a value's answer; a stream has none.
      if (op.kind === "stream") done();
      else response.once("close", done);
      resolve(response);
    });
    sent.once("error", (error) => {
      done();
      reject(Object.assign(error, { reusedSocket: sent.reusedSocket }));
    });
    sent.end(body);
  });
}

/** Whether the instance has the very contract that we have. */
const isSame = (contract: Contract, { digest }: Target): boolean =>
  digest !== undefined && digest === digestKept(contract);

function placeInput(
  op: Operation,
  input: Record<string, unknown>,
  options: ConnectOptions,
  names: Names | undefined,
): { path: string; body?: Uint8Array | string } {
  const type = options.encoding ?? CBOR_TYPE;
  let path = (options.basePath ?? "") + op.path;
  if (op.kind === "stream") return { path, body: encodeBody(input, type, names) };
  const { params, query, body } = placed(op);
  for (const name of params) path = path.replace(`:${name}`, encodeURIComponent(String(input[name])));
  const pairs = query
    .filter(({ field }) => input[field] !== undefined)
    .map(({ field, wire }) => `${wire}=${encodeURIComponent(String(input[field]))}`);
  if (pairs.length > 0) path += `?${pairs.join("&")}`;
  return body && input["body"] !== undefined ? { path, body: encodeBody(input["body"], type, names) } : { path };
}

async function failureOf(response: IncomingMessage): Promise<Failure> {
  const status = response.statusCode ?? 500;
  const retryAfterS = retryAfterOf(response.headers, Date.now());
  const bytes = (await bytesOf(response, FAILURE_BYTES_MAX)) ?? Buffer.alloc(0);
  let body: object;
  try {
    body = decodeBody(bytes, response.headers["content-type"]) as object;
  } catch {
    // From somebody between here and there, a proxy: how long to wait it says nevertheless.
    body = { message: bytes.toString("utf8", 0, 200) };
  }
  return failureFromWire(body, status, retryAfterS);
}

function asTransport(error: unknown, contract: Contract, op: Operation): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof Error && "code" in error) {
    return fail(UNAVAILABLE, `${contract.name} cannot be reached for ${op.method} ${op.path} (${String(error.code)})`, {
      cause: error,
      retryAfterS: 1,
    });
  }
  return asFailure(error);
}

/** True where repeating cannot do a thing twice: nothing was sent, or what was sent only reads. */
function wasNotTaken(error: unknown, op: Operation): boolean {
  const e = error as { code?: string; reusedSocket?: boolean };
  return e.code === "ECONNREFUSED" || (e.code !== undefined && (op.method === "GET" || op.public?.retry === "safe"));
}
