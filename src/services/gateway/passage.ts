/** One request's time at the door: handed to the steps, its answer given, whatever goes wrong told, written down at the end. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Clock } from "../../kernel/clock.ts";
import { asFailure, type Failure, fail } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import type { Tracer } from "../../kernel/trace.ts";
import { errorBody } from "../../kernel/wire.ts";
import { noteRequest } from "./access-log.ts";
import { GATEWAY_BUSY, GATEWAY_CLIENT_GONE, GATEWAY_HEADERS_TOO_LARGE, GATEWAY_REQUEST_SLOW } from "./api.ts";
import { deliver } from "./delivery.ts";
import { GATEWAY_CONDITION_FAILED } from "./static.api.ts";
import { GATEWAY_UPGRADE_REQUIRED } from "./websocket.api.ts";
import { answerHeaders, readHead, switchingHead } from "./headers.ts";
import { JSON_MEDIA } from "./media/media.ts";
import type { Metrics } from "./metrics.ts";
import { Answer } from "./upstream/answer.ts";
import { drop, gone, type Handler, type Reply, Visit, type Upgrade } from "./visit.ts";

export interface PassageOptions {
  /** All steps, from the first limit to the answer. */
  readonly handle: Handler;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly log: Log;
  readonly tracer: Tracer;
  readonly runningMax: number;
  /** Requests under way in this process; changed here. */
  readonly load: { running: number; draining: boolean };
}

/** What still comes of a refused body is thrown away for so long, so that the client reads its answer before it meets a reset. */
const LINGER_MS = 500;
/** Statuses that no kind of failure stands for. */
const STATUSES: Readonly<Record<string, number>> = {
  [GATEWAY_HEADERS_TOO_LARGE.code]: 431,
  [GATEWAY_REQUEST_SLOW.code]: 408,
  [GATEWAY_CONDITION_FAILED.code]: 412,
  [GATEWAY_UPGRADE_REQUIRED.code]: 426,
  // As nginx has it; only in the log and the metrics.
  [GATEWAY_CLIENT_GONE.code]: 499,
};

export class Passage {
  readonly #o: PassageOptions;
  readonly #visit: Visit;
  #failure: Failure | undefined;
  #status = 0;
  #bytes = 0;
  #endLinger: (() => void) | undefined;
  #switched = false;

  /** `expects`: the client waits for 100 Continue before it sends the body. */
  constructor(
    options: PassageOptions,
    request: IncomingMessage,
    response: ServerResponse,
    { expects = false, upgrade }: { readonly expects?: boolean; readonly upgrade?: Upgrade } = {},
  ) {
    this.#o = options;
    this.#visit = new Visit(request, response, { expects, upgrade, clock: options.clock });
    options.load.running++;
    response.once("close", () => this.#over());
  }

  /** True as long as an answer may still be given. */
  get open(): boolean {
    return this.#visit.open;
  }

  /** True until the answer has been given to its end. */
  get running(): boolean {
    const { response } = this.#visit;
    return !response.writableFinished && !response.destroyed;
  }

  /** True where the whole request has come: what follows on the connection is another one. */
  get received(): boolean {
    return this.#visit.received;
  }

  async run(): Promise<void> {
    const visit = this.#visit;
    try {
      visit.head = readHead(visit.request.rawHeaders, visit.request.httpVersion);
      visit.passed = visit.head.passed;
      const { load, runningMax } = this.#o;
      if (load.running > runningMax)
        throw fail(GATEWAY_BUSY, "as many requests are under way as the gateway takes", { retryAfterS: 1 });
      const reply = this.#o.handle(visit);
      this.#give(reply instanceof Promise ? await reply : reply);
    } catch (error) {
      this.refuse(asFailure(error), error);
    }
  }

  /** Answers a failure, where no answer has begun; else the connection is cut, so that half an answer is not taken for one. */
  refuse(failure: Failure, cause: unknown = failure): void {
    if (this.#failure) return;
    this.#failure = failure;
    const { requestId, response, media = JSON_MEDIA } = this.#visit;
    if (failure.kind === "internal") this.#o.log.error({ requestId, err: cause }, failure.message);
    if (!this.open) return void response.destroy();
    const status = statusOf(failure);
    const extra = failure.retryAfterS === undefined ? [] : ["Retry-After", String(failure.retryAfterS)];
    const body = Buffer.from(media.encode({ ...errorBody(failure, requestId), statusCode: status }));
    const length = ["Content-Length", String(body.length)];
    this.#give({ status, headers: [...extra, "Content-Type", media.type, ...length], body });
  }

  /** Told that what follows on the connection is of no use. False where the answer is not all there, and is to be cut. */
  settle(): boolean {
    this.#endLinger?.();
    return this.#visit.response.writableEnded;
  }

  /** Gives the answer. Where part of the request is still to come, the connection is not used again. */
  #give(reply: Reply): void {
    const visit = this.#visit;
    const { response, head } = visit;
    // Meanwhile more has come, and it was malformed; or the client has gone.
    if (!this.open) return drop(reply);
    if (reply.done) response.once("close", reply.done);
    this.#status = reply.status;
    if (reply.switched) return this.#switch(reply, reply.switched);
    const unread = !this.received && (head === undefined || head.hasBody);
    if (unread || this.#o.load.draining) response.shouldKeepAlive = false;
    response.writeHead(reply.status, answerHeaders(this.#ours(), reply.headers, reply.kept));
    const { body } = reply;
    if (body instanceof Answer) {
      return deliver(body, {
        response,
        ticket: visit.ticket,
        sent: (bytes) => (this.#bytes += bytes),
        broken: (failure) => this.refuse(failure),
      });
    }
    this.#bytes = body?.length ?? 0;
    if (!unread || visit.expects || visit.method === "HEAD") response.end(body);
    else this.#linger(body);
  }

  /** Written past the response, which knows no answer that goes on as something else (RFC 9110 15.2.2). */
  #switch(reply: Reply, switched: (client: Socket) => void): void {
    const { response, upgrade } = this.#visit;
    const { socket } = upgrade!;
    response.detachSocket(socket);
    socket.write(switchingHead([...this.#ours(), ...reply.headers]), "latin1");
    switched(socket);
    this.#switched = true;
    this.#over();
  }

  #linger(body: Buffer | undefined): void {
    const { request, response } = this.#visit;
    if (body) response.write(body);
    else response.flushHeaders();
    const end = () => {
      clearTimeout(timer);
      response.end();
    };
    const timer = setTimeout(end, LINGER_MS);
    this.#endLinger = end;
    request.once("end", end).once("close", end).resume();
  }

  /** What every answer carries: the ids, how much more may come, and what the steps added. */
  #ours(): string[] {
    const { limit, extra, requestId, head } = this.#visit;
    const headers = ["X-Request-ID", requestId, "X-Correlation-ID", head?.correlationId ?? requestId];
    if (extra.length > 0) headers.push(...extra);
    if (limit)
      headers.push("RateLimit", `"${limit.name}";r=${limit.taken.remaining};t=${Math.ceil(limit.taken.waitMs / 1000)}`);
    return headers;
  }

  /** The answer has been given, or the client has gone. */
  #over(): void {
    const visit = this.#visit;
    this.#o.load.running--;
    const finished = this.#switched || visit.response.writableFinished;
    this.#failure ??= finished ? undefined : gone();
    if (!finished) visit.ticket?.end(gone());
    visit.ticket?.stop();
    const status = finished || !this.#failure ? this.#status : statusOf(this.#failure);
    noteRequest(this.#o, { visit, failure: this.#failure, status, bytes: this.#bytes });
  }
}

export const statusOf = (failure: Failure): number => STATUSES[failure.code] ?? failure.status;
