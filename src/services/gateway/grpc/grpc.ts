/** A method of a gRPC service as JSON over HTTP: one message in, one out, or as many as come, a line or an event each. */
import { join } from "node:path";
import { traceparent } from "../../../kernel/call.ts";
import { Failure, fail } from "../../../kernel/error.ts";
import { HEADER, JSON_TYPE } from "../../../kernel/wire.ts";
import { GATEWAY_ROUTE_UNKNOWN, GATEWAY_UPSTREAM_FAILED } from "../api.ts";
import type { GrpcSettings } from "../grpc.api.ts";
import { Said } from "../headers.ts";
import { refuseMethod } from "../pages.ts";
import type { Balancer } from "../upstream/balancer.ts";
import { Answer } from "../upstream/answer.ts";
import type { Connections } from "../upstream/connections.ts";
import type { Endpoint } from "../upstream/endpoint.ts";
import { gone, type Handler, type Reply, type Visit } from "../visit.ts";
import { type Call, call, channelsOver } from "./channels.ts";
import { type Method, Schema } from "./schema.ts";
import { GrpcStatus } from "./status.ts";

export interface GrpcOptions {
  readonly settings: GrpcSettings;
  /** The route's path, whose names the method may use. */
  readonly pattern: string;
  /** Where the descriptors are. */
  readonly directory: string;
  readonly balancer: Balancer;
  readonly connections: Connections;
  /** A service of this node, which is told whom a request is for. */
  readonly inside: boolean;
  /** What a service says of its inside passes, too. */
  readonly passErrors: boolean;
}

const METHODS = ["POST", "PUT"];
/** Instances that are tried where one cannot be connected to. */
const TRIES_MAX = 3;
const EVENTS_TYPE = "text/event-stream; charset=utf-8";
const LINES_TYPE = "application/x-ndjson";

/** Makes the handler; GATEWAY_GRPC_DESCRIPTORS, GATEWAY_GRPC_MESSAGE, GATEWAY_ROUTE_UNKNOWN, UNAVAILABLE, GATEWAY_UPSTREAM_FAILED. */
export function grpc(options: GrpcOptions): Handler {
  const { settings, directory } = options;
  const nameOf = methodName(options);
  let reading: Promise<Schema> | undefined;
  return async (visit) => {
    if (!METHODS.includes(visit.method)) throw refuseMethod(visit, METHODS);
    reading ??= Schema.read(join(directory, settings.descriptors));
    // A file that comes later is read when it is there.
    const schema = await reading.catch((error: unknown) => {
      reading = undefined;
      throw error;
    });
    const name = nameOf(visit);
    const method = schema.method(name);
    if (!method) throw fail(GATEWAY_ROUTE_UNKNOWN, `there is no method '${name.slice(0, 200)}' that takes one message`);
    return ask(options, visit, method);
  };
}

function methodName({ settings, pattern }: GrpcOptions): (visit: Visit) => string {
  const [service, method] = settings.method.split("/");
  const place = pattern.slice(1).split("/").indexOf(method);
  return ({ target }) => (place < 0 ? settings.method : `${service}/${target!.segments[place]}`);
}

async function ask(options: GrpcOptions, visit: Visit, method: Method): Promise<Reply> {
  const message = method.encode(visit.body);
  const { endpoint, session } = await connected(options, visit);
  const ticket = visit.ticket!;
  const asked = call(session, {
    path: method.path,
    message,
    // What comes in a stream may come for as long as somebody listens.
    timeoutMs: method.isStream ? undefined : ticket.leftMs,
    headers: headersOf(options, visit),
  });
  endpoint.running++;
  let running = true;
  const done = () => {
    if (running) endpoint.running--;
    running = false;
    asked.cancel();
  };
  try {
    return await ticket.wait(method.isStream ? stream(method, asked, visit, done) : one(method, asked, done));
  } catch (error) {
    done();
    if (error instanceof GrpcStatus) return refusal(error, visit, options.passErrors);
    throw error;
  }
}

async function connected({ balancer, settings, connections }: GrpcOptions, visit: Visit) {
  const group = balancer.group(settings.upstream);
  const ticket = visit.ticket!;
  const tried = new Set<Endpoint>();
  for (;;) {
    const endpoint = await group.pick(tried, { ticket, key: visit.client, sinceMs: visit.startMs });
    try {
      return { endpoint, session: await ticket.wait(channelsOver(connections).session(endpoint)) };
    } catch (error) {
      ticket.throwIfEnded();
      group.failed(endpoint);
      if (tried.add(endpoint).size >= TRIES_MAX || !group.choose(tried)) throw error;
    }
  }
}

const headersOf = ({ inside }: GrpcOptions, visit: Visit): Record<string, string> => ({
  [HEADER.traceparent]: traceparent(visit),
  [HEADER.correlationId]: visit.requestId,
  "x-forwarded-for": visit.address,
  ...(inside && visit.verdict ? { [HEADER.subject]: visit.verdict.header } : {}),
});

async function one(method: Method, { messages }: Call, done: () => void): Promise<Reply> {
  const all: Buffer[] = [];
  for await (const message of messages) if (all.push(message) > 1) break;
  if (all.length !== 1) throw fail(GATEWAY_UPSTREAM_FAILED, "the service answered with more or less than one message");
  const body = Buffer.from(decode(method, all[0]));
  return { status: 200, headers: ["Content-Type", JSON_TYPE, "Content-Length", String(body.length)], body, done };
}

function decode(method: Method, bytes: Uint8Array): string {
  try {
    return method.decode(bytes);
  } catch (cause) {
    throw fail(GATEWAY_UPSTREAM_FAILED, "the service's message is not the one that its descriptors tell of", { cause });
  }
}

/** The head waits for the first message, or the end: so that what fails at once has a status of its own. */
async function stream(method: Method, asked: Call, visit: Visit, done: () => void): Promise<Reply> {
  const isEvents = (visit.header("accept") ?? "").toLowerCase().includes("text/event-stream");
  const line = (text: string, event = "") => Buffer.from(isEvents ? `${event}data: ${text}\n\n` : `${text}\n`);
  const first = await asked.messages.next();
  let paused: PromiseWithResolvers<void> | undefined;
  const resume = () => {
    paused?.resolve();
    paused = undefined;
  };
  const headers = ["Content-Type", isEvents ? EVENTS_TYPE : LINES_TYPE, "X-Accel-Buffering", "no"];
  const pause = () => void (paused ??= Promise.withResolvers<void>());
  const body = new Answer(200, new Said(headers), undefined, { pause, resume, cut: done });
  const give = async () => {
    for (let next = first; !next.done; next = await asked.messages.next()) {
      body.push(line(decode(method, next.value)));
      if (paused) await paused.promise;
    }
  };
  const end = () => {
    resume();
    done();
  };
  give().then(
    () => body.finish(),
    (error: unknown) => {
      // The head has gone out: what went wrong is the last that is told.
      if (error instanceof GrpcStatus) {
        body.push(line(JSON.stringify({ error: { code: error.name, message: error.said } }), "event: error\n"));
        body.finish();
      } else body.break(error instanceof Failure ? error : gone());
    },
  );
  return { status: 200, headers, body, done: end };
}

/** In the house's shape, with the name that gRPC has for it. */
function refusal(error: GrpcStatus, { requestId }: Visit, passErrors: boolean): Reply {
  const { name, http: statusCode, message, said } = error;
  const body = Buffer.from(
    JSON.stringify({
      apiVersion: "v3",
      requestId,
      statusCode,
      message: passErrors ? message : said,
      code: `GRPC_${name}`,
      todo: "See the message; the code is the service's, as gRPC has it (google.rpc.Code).",
    }),
  );
  const headers = ["Content-Type", JSON_TYPE, "Content-Length", String(body.length)];
  return { status: statusCode, headers, body };
}
