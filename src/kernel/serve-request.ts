/** What a request is, before it is an operation's input: its ids, its caller, its deadline, whether it may, what it carries. */
import type { TLSSocket } from "node:tls";
import type { FastifyRequest } from "fastify";
import { type Call, makeCall, readRequestId, readTraceparent, type Subject } from "./call.ts";
import { defaultOf, placed, readText } from "./check.ts";
import { type Contract, DEFAULT_TIMEOUT_MS, type Operation } from "./contract.ts";
import { CALLER_REFUSED, fail, INPUT_MALFORMED, INSTANCE_MISDIRECTED } from "./error.ts";
import { mayReach } from "./identity/needs.ts";
import { peerName } from "./identity/peer.ts";
import { termsOf } from "./names.ts";
import type { ServeOptions } from "./serve.ts";
import { decodeBody, foldKeys, HEADER } from "./wire.ts";

/** Ids, caller and deadline of a request. A peer's traceparent is believed: it holds our certificate, or the socket is the operator's. */
export function callOf(options: ServeOptions<Contract>, op: Operation, request: FastifyRequest) {
  const h = request.headers as Record<string, string | undefined>;
  const trace = readTraceparent(h[HEADER.traceparent]);
  const requestId = trace?.requestId ?? readRequestId(h[HEADER.correlationId]) ?? readRequestId(h[HEADER.requestId]);
  const peer = options.identity && peerName(request.raw.socket as TLSSocket);
  const caller = options.identity ? (peer?.service ?? "") : (options.plainCaller ?? "");
  const asked = Number(h[HEADER.timeout] ?? Number.NaN);
  const limitMs = op.kind === "stream" ? Number.POSITIVE_INFINITY : (op.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const subject = caller === "gateway" ? readSubject(h[HEADER.subject]) : undefined;
  return makeCall({
    caller,
    timeoutMs: asked > 0 ? Math.min(asked, Math.max(limitMs, 60_000)) : limitMs,
    ...(requestId ? { requestId } : {}),
    ...(trace ? { parentId: trace.parentId } : {}),
    ...(peer?.needs ? { needs: peer.needs } : {}),
    ...(subject ? { subject } : {}),
  });
}

/** Reads the person that the gateway names. */
export function readSubject(text: string | undefined): Subject | undefined {
  if (!text) return undefined;
  return JSON.parse(Buffer.from(text, "base64url").toString()) as Subject;
}

/** Refuses a caller the contract does not name, and a request meant for another instance. */
export function admit(options: ServeOptions<Contract>, op: Operation, call: Call, request: FastifyRequest): void {
  const meant = request.headers[HEADER.instance];
  if (meant !== undefined && options.instance !== undefined && meant !== options.instance) {
    throw fail(
      INSTANCE_MISDIRECTED,
      `this is instance ${options.instance} of ${options.contract.name}, not ${String(meant).slice(0, 100)}`,
    );
  }
  if (!mayReach(call.needs, options.contract.name))
    throw fail(
      CALLER_REFUSED,
      `'${call.caller}' was not given ${options.contract.name}: its certificate is for ${call.needs?.join(", ") ?? ""}`,
    );
  const outside = call.caller === "gateway" || call.caller === "open-edgex";
  if ((outside && op.public) || mayCall(op, call.caller)) return;
  throw fail(CALLER_REFUSED, `'${call.caller}' may not call ${op.method} ${op.path} of ${options.contract.name}`);
}

/** `*` is every service with a certificate, `edge.*` every one whose name begins so, the empty name one without a certificate. */
function mayCall(op: Operation, caller: string): boolean {
  if (!op.callers) return false;
  if (op.callers.includes(caller)) return true;
  return caller !== "" && op.callers.some((c) => c.endsWith("*") && caller.startsWith(c.slice(0, -1)));
}

export function readInput(contract: Contract, op: Operation, request: FastifyRequest): unknown {
  const body = request.body as Buffer | undefined;
  const type = request.headers["content-type"];
  const spoken = () => {
    const terms = termsOf(contract, op);
    return { type: terms.type, names: terms.body };
  };
  if (op.kind === "stream") return body?.length ? decodeBody(body, type, spoken) : {};
  const input: Record<string, unknown> = {};
  const { params, query, body: takesBody } = placed(op);
  for (const name of params) input[name] = readText((request.params as Record<string, string>)[name], op.input[name]);
  for (const { field, wire } of query) {
    const text = (request.query as Record<string, string | string[]>)[wire];
    const schema = op.input[field];
    const found = text === undefined ? defaultOf(schema) : readText(String(text), schema);
    if (found !== undefined) input[field] = found;
  }
  if (takesBody) {
    if (!body?.length && !isOptional(op.input["body"]))
      throw fail(INPUT_MALFORMED, `${op.method} ${op.path} needs a body`);
    if (body?.length) {
      const decoded = decodeBody(body, type, spoken);
      input["body"] = contract.edgex ? foldKeys(decoded, op.input["body"]) : decoded;
    }
  }
  return input;
}

const isOptional = (schema: object): boolean => "~optional" in schema;
