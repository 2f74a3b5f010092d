/** One try of a call at one instance: what is sent, what comes back, and what a failure on the way is told as. */
import type { Agent, IncomingMessage, RequestOptions } from "node:http";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { type Call, traceparent, whenOver } from "./call.ts";
import { placed } from "./check.ts";
import { type Contract, DEFAULT_ANSWER_BYTES_MAX, type Operation } from "./contract.ts";
import { ANSWER_TOO_LARGE, asFailure, DEADLINE, Failure, fail, INPUT_MALFORMED, UNAVAILABLE } from "./error.ts";
import { callerOf } from "./during.ts";
import { IdentityAgent } from "./identity/agent.ts";
import { digestKept, type Names, termsOf } from "./names.ts";
import { retryAfterOf } from "./retry-after.ts";
import type { JSON_TYPE } from "./wire.ts";
import { CBOR_TYPE, decodeBody, encodeBody, failureFromWire, HEADER } from "./wire.ts";

/** One instance of a service, and the connections to it. */
export interface Target {
  readonly instance?: string;
  /** Of the instance's contract, as it registered it. */
  readonly digest?: string | undefined;
  readonly host: string;
  readonly port: number;
  /** Keep-alive connections; those of our identity, or plain ones for `--open-edgex` device services. */
  readonly agent: Agent;
  readonly secure: boolean;
  readonly socketPath?: string;
}

export interface Asked {
  readonly contract: Contract;
  readonly op: Operation;
  readonly input: Record<string, unknown>;
  /** Before the path, e.g. `/core-data` through the gateway. */
  readonly basePath?: string | undefined;
  /** Body encoding: CBOR between our services, JSON for strangers. */
  readonly encoding?: typeof CBOR_TYPE | typeof JSON_TYPE | undefined;
  /** Further headers, e.g. a person's token. */
  readonly headers?: (() => Record<string, string>) | undefined;
}

/** The body of an answer that is no failure. */
export interface Answered {
  readonly bytes: Buffer;
  readonly type: string | undefined;
}

/** A failure is a code and some sentences; of one that is longer only the status is told. */
const FAILURE_BYTES_MAX = 65_536;
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Asks an instance for a value; throws the failure that it answers, DEADLINE, or an error with a `code` of the way there. */
export async function askValue(asked: Asked, target: Target, call: Call, timeoutMs: number): Promise<Answered> {
  const { status, header, bytes } = await (target.agent instanceof IdentityAgent && target.socketPath === undefined
    ? askByLine(asked, target, target.agent, call, timeoutMs)
    : askByNode(asked, target, call, timeoutMs));
  if (status >= 300) throw failureOf(status, header, bytes ?? Buffer.alloc(0));
  if (bytes) return { bytes, type: header("content-type") };
  const { contract, op } = asked;
  throw fail(
    ANSWER_TOO_LARGE,
    `${contract.name} answered ${op.method} ${op.path} with more than ${bytesMaxOf(op)} bytes`,
  );
}

/** Opens a stream at an instance: resolves at the head of its answer, and throws as askValue does. */
export async function askStream(asked: Asked, target: Target, call: Call, timeoutMs: number): Promise<IncomingMessage> {
  const response = await send(asked, target, call, timeoutMs);
  const status = response.statusCode ?? 500;
  if (status < 300) return response;
  throw failureOf(status, headerOf(response), (await bytesOf(response, FAILURE_BYTES_MAX)) ?? Buffer.alloc(0));
}

/** Makes a failure of what broke on the way: UNAVAILABLE. */
export function asTransport(error: unknown, { contract, op }: Asked): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof Error && "code" in error) {
    return fail(UNAVAILABLE, `${contract.name} cannot be reached for ${op.method} ${op.path} (${String(error.code)})`, {
      cause: error,
      retryAfterS: 1,
    });
  }
  return asFailure(error);
}

interface Whole {
  readonly status: number;
  readonly header: (name: string) => string | undefined;
  /** None where it is longer than it may be. */
  readonly bytes: Buffer | undefined;
}

const bytesMaxOf = (op: Operation): number => op.answerBytesMax ?? DEFAULT_ANSWER_BYTES_MAX;

/** Over the connections of our identity. */
async function askByLine(
  asked: Asked,
  target: Target,
  agent: IdentityAgent,
  call: Call,
  timeoutMs: number,
): Promise<Whole> {
  const { op } = asked;
  const { host, port } = target;
  const { path, body, headers } = placeInput(asked, target, call, timeoutMs);
  let head = `${op.method} ${path} HTTP/1.1\r\nhost: ${host.includes(":") ? `[${host}]` : host}:${port}\r\n`;
  for (const [name, value] of Object.entries(headers)) {
    if (!FIELD_VALUE.test(String(value)))
      throw fail(INPUT_MALFORMED, `the header ${name} cannot be sent: it is no text of HTTP's`);
    head += `${name}: ${value}\r\n`;
  }
  const asking = agent.lines.ask(host, port, {
    head: `${head}\r\n`,
    body,
    bytesMax: bytesMaxOf(op),
    failureBytesMax: FAILURE_BYTES_MAX,
  });
  const done = bounded(asked, call, timeoutMs, asking.cut);
  const answer = await asking.answer.finally(done);
  return { status: answer.status, header: (name) => fieldOf(answer.headers, name), bytes: answer.body };
}

function fieldOf(headers: readonly string[], name: string): string | undefined {
  for (let at = 0; at < headers.length; at += 2) if (headers[at].toLowerCase() === name) return headers[at + 1];
  return undefined;
}

/** To those without a certificate of ours, and over sockets with a name. */
async function askByNode(asked: Asked, target: Target, call: Call, timeoutMs: number): Promise<Whole> {
  const response = await send(asked, target, call, timeoutMs);
  const status = response.statusCode ?? 500;
  const bytesMax = status < 300 ? bytesMaxOf(asked.op) : FAILURE_BYTES_MAX;
  return { status, header: headerOf(response), bytes: await bytesOf(response, bytesMax) };
}

const headerOf =
  ({ headers }: IncomingMessage) =>
  (name: string): string | undefined =>
    headers[name]?.toString();

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

/** Cuts a request at its deadline, or when its call is over; the result stops that. */
function bounded({ contract, op }: Asked, call: Call, timeoutMs: number, cut: (error: Error) => void): () => void {
  const late = () =>
    cut(fail(DEADLINE, `${contract.name} did not answer ${op.method} ${op.path} within ${Math.round(timeoutMs)} ms`));
  const timer = Number.isFinite(timeoutMs) ? setTimeout(late, Math.max(1, timeoutMs)) : undefined;
  const stop = whenOver(call, () => cut(fail(DEADLINE, `${contract.name} was not waited for any longer`)));
  return () => {
    clearTimeout(timer);
    stop();
  };
}

function send(asked: Asked, target: Target, call: Call, timeoutMs: number): Promise<IncomingMessage> {
  const { op } = asked;
  const { path, body, headers } = placeInput(asked, target, call, timeoutMs);
  return new Promise((resolve, reject) => {
    const where = target.socketPath ? { socketPath: target.socketPath } : { host: target.host, port: target.port };
    const request: RequestOptions = { ...where, agent: target.agent, method: op.method, path, headers };
    const sent = (target.secure ? httpsRequest : httpRequest)(request);
    // What is over already is destroyed here, and tells so by "error" a tick later.
    const done = bounded(asked, call, timeoutMs, (error) => sent.destroy(error));
    sent.once("response", (response) => {
      // The deadline holds until the last byte of a value's answer; a stream has none.
      if (op.kind === "stream") done();
      else response.once("close", done);
      resolve(response);
    });
    sent.once("error", (error) => {
      done();
      reject(error);
    });
    sent.end(body);
  });
}

interface Placed {
  readonly path: string;
  readonly body: Uint8Array | string | undefined;
  readonly headers: Record<string, string | number>;
}

function placeInput(asked: Asked, target: Target, call: Call, timeoutMs: number): Placed {
  const { op, input, contract } = asked;
  const encoding = asked.encoding ?? CBOR_TYPE;
  const terms = encoding === CBOR_TYPE && isSame(contract, target) ? termsOf(contract, op) : undefined;
  const type = terms?.type ?? encoding;
  const body = bodyOf(op, input, encoding, terms?.body);
  const headers: Record<string, string | number> = {
    accept: type,
    [HEADER.traceparent]: traceparent(callerOf(call)),
    // Our own know it from the traceparent.
    ...(terms ? {} : { [HEADER.correlationId]: call.requestId }),
    ...asked.headers?.(),
  };
  if (Number.isFinite(timeoutMs)) headers[HEADER.timeout] = Math.max(1, Math.ceil(timeoutMs));
  if (target.instance) headers[HEADER.instance] = target.instance;
  if (body !== undefined) {
    headers["content-type"] = type;
    headers["content-length"] = typeof body === "string" ? Buffer.byteLength(body) : body.length;
  } else if (op.method !== "GET") headers["content-length"] = 0;
  return { path: (asked.basePath ?? "") + pathOf(op, input), body, headers };
}

/** Whether the instance has the very contract that we have. */
const isSame = (contract: Contract, { digest }: Target): boolean =>
  digest !== undefined && digest === digestKept(contract);

function bodyOf(
  op: Operation,
  input: Record<string, unknown>,
  type: typeof CBOR_TYPE | typeof JSON_TYPE,
  names: Names | undefined,
): Uint8Array | string | undefined {
  if (op.kind === "stream") return encodeBody(input, type, names);
  return placed(op).body && input["body"] !== undefined ? encodeBody(input["body"], type, names) : undefined;
}

function pathOf(op: Operation, input: Record<string, unknown>): string {
  if (op.kind === "stream") return op.path;
  let { path } = op;
  const { params, query } = placed(op);
  for (const name of params) path = path.replace(`:${name}`, encodeURIComponent(String(input[name])));
  const pairs = query
    .filter(({ field }) => input[field] !== undefined)
    .map(({ field, wire }) => `${wire}=${encodeURIComponent(String(input[field]))}`);
  return pairs.length > 0 ? `${path}?${pairs.join("&")}` : path;
}

function failureOf(status: number, header: (name: string) => string | undefined, bytes: Buffer): Failure {
  const retryAfterS = retryAfterOf({ "retry-after": header("retry-after"), date: header("date") }, Date.now());
  let body: object;
  try {
    body = decodeBody(bytes, header("content-type")) as object;
  } catch {
    // From somebody between here and there, a proxy: how long to wait it says nevertheless.
    body = { message: bytes.toString("utf8", 0, 200) };
  }
  return failureFromWire(body, status, retryAfterS);
}
