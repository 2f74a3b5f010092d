/** One request's way through the door: judged, its body taken in, sent on, its answer given back, told in one log line. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { newRequestId, newSpanId, traceparent } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { asFailure, DEADLINE, type Failure, fail } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import type { Tracer } from "../../kernel/trace.ts";
import { errorBody, HEADER, JSON_TYPE } from "../../kernel/wire.ts";
import {
  GATEWAY_BUSY,
  GATEWAY_CLIENT_GONE,
  GATEWAY_HEADERS_TOO_LARGE,
  GATEWAY_REQUEST_REFUSED,
  GATEWAY_REQUEST_SLOW,
  GATEWAY_UPSTREAM_FAILED,
} from "./api.ts";
import type { Answer } from "./answer.ts";
import { noteRequest } from "./access-log.ts";
import { type Budget, takeBody, tooLarge } from "./body.ts";
import { brokenOff, deliver } from "./delivery.ts";
import { answerHeaders, type Head, readHead, SECURITY_HEADERS } from "./headers.ts";
import { clientOf } from "./limiter.ts";
import type { Metrics } from "./metrics.ts";
import type { PageAnswer } from "./pages.ts";
import { ERROR_BYTES_MAX, isOurs } from "./refusals.ts";
import type { GatewayRules, Page, Visit } from "./service.ts";
import { Ticket } from "./ticket.ts";
import type { Sent, Upstream } from "./upstream.ts";

export interface PassageOptions {
  readonly admit: GatewayRules["admit"];
  readonly upstream: Upstream;
  pageOf(page: Page, visit: Visit): PageAnswer;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly log: Log;
  readonly tracer: Tracer;
  readonly bodies: Budget;
  readonly bodyBytesMax: number;
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
  // As nginx has it; only in the log and the metrics.
  [GATEWAY_CLIENT_GONE.code]: 499,
};

export class Passage {
  readonly #o: PassageOptions;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #expects: boolean;
  readonly #requestId = newRequestId();
  readonly #spanId = newSpanId();
  readonly #startMs: number;
  readonly #visit: Visit;
  #head: Head | undefined;
  #ticket: Ticket | undefined;
  #failure: Failure | undefined;
  #status = 0;
  #bytes = 0;
  #endLinger: (() => void) | undefined;

  /** `expects`: the client waits for 100 Continue before it sends the body. */
  constructor(options: PassageOptions, request: IncomingMessage, response: ServerResponse, expects: boolean) {
    this.#o = options;
    this.#request = request;
    this.#response = response;
    this.#expects = expects;
    this.#startMs = options.clock.monotonicMs();
    const client = clientOf(request.socket.remoteAddress ?? "");
    this.#visit = {
      method: request.method ?? "",
      url: request.url ?? "",
      host: "",
      authorization: undefined,
      client,
      extra: [],
    };
    options.load.running++;
    response.once("close", () => this.#over());
  }

  /** True as long as an answer may still be given. */
  get open(): boolean {
    return !this.#response.headersSent && !this.#response.destroyed;
  }

  /** True until the answer has been given to its end. */
  get running(): boolean {
    return !this.#response.writableFinished && !this.#response.destroyed;
  }

  /** True where the whole request has come: what follows on the connection is another one. */
  get received(): boolean {
    return this.#request.complete;
  }

  async run(): Promise<void> {
    try {
      const head = readHead(this.#request.rawHeaders, this.#request.httpVersion);
      this.#head = head;
      const { load, runningMax } = this.#o;
      if (load.running > runningMax)
        throw fail(GATEWAY_BUSY, "as many requests are under way as the gateway takes", { retryAfterS: 1 });
      const visit = Object.assign(this.#visit, { host: head.host, authorization: head.authorization });
      const judged = this.#o.admit(visit);
      if (judged) await judged;
      // Meanwhile more has come, and it was malformed; or the client has gone.
      if (!this.open) return;
      if (visit.page) this.#givePage(visit.page);
      else await this.#pass(head, visit);
    } catch (error) {
      this.refuse(asFailure(error), error);
    }
  }

  /** Answers a failure, where no answer has begun; else the connection is cut, so that half an answer is not taken for one. */
  refuse(failure: Failure, cause: unknown = failure): void {
    if (this.#failure) return;
    this.#failure = failure;
    if (failure.kind === "internal") this.#o.log.error({ requestId: this.#requestId, err: cause }, failure.message);
    if (!this.open) return void this.#response.destroy();
    const status = statusOf(failure);
    const extra = failure.retryAfterS === undefined ? [] : ["Retry-After", String(failure.retryAfterS)];
    const body = JSON.stringify({ ...errorBody(failure, this.#requestId), statusCode: status });
    this.#give(status, [...extra, "Content-Type", JSON_TYPE], Buffer.from(body));
  }

  #givePage(page: Page): void {
    if (this.#head!.hasBody) throw fail(GATEWAY_REQUEST_REFUSED, "this page takes no body");
    const { status, type, body } = this.#o.pageOf(page, this.#visit);
    this.#give(status, type === undefined ? [] : ["Content-Type", type], Buffer.from(body));
  }

  /** Gives an answer of our own. Where part of the request is still to come, the connection is not used again. */
  #give(status: number, headers: readonly string[], body: Buffer): void {
    const response = this.#response;
    this.#status = status;
    this.#bytes = body.length;
    const unread = !this.received && (this.#head === undefined || this.#head.hasBody);
    if (unread || this.#o.load.draining) response.shouldKeepAlive = false;
    const length = status === 204 ? [] : ["Content-Length", String(body.length)];
    response.writeHead(status, [...this.#ours(), ...SECURITY_HEADERS, ...headers, ...length]);
    if (this.#visit.method === "HEAD" || !unread || this.#expects)
      return void response.end(this.#visit.method === "HEAD" ? undefined : body);
    response.write(body);
    const end = () => {
      clearTimeout(timer);
      response.end();
    };
    const timer = setTimeout(end, LINGER_MS);
    this.#endLinger = end;
    this.#request.once("end", end).once("close", end).resume();
  }

  /** Told that what follows on the connection is of no use. False where the answer is not all there, and is to be cut. */
  settle(): boolean {
    this.#endLinger?.();
    return this.#response.writableEnded;
  }

  /** What every answer carries: the ids, how much more may come, and what the judgement added. */
  #ours(): string[] {
    const { limit, extra } = this.#visit;
    const headers = [
      "X-Request-ID",
      this.#requestId,
      "X-Correlation-ID",
      this.#head?.correlationId ?? this.#requestId,
      ...extra,
    ];
    if (limit)
      headers.push("RateLimit", `"${limit.name}";r=${limit.taken.remaining};t=${Math.ceil(limit.taken.waitMs / 1000)}`);
    return headers;
  }

  async #pass(head: Head, visit: Visit): Promise<void> {
    const route = visit.route!;
    const service = visit.service!;
    const { clock, bodies, bodyBytesMax } = this.#o;
    const bare = route.method === "GET";
    if (bare && head.hasBody) throw fail(GATEWAY_REQUEST_REFUSED, `${visit.method} takes no body`);
    if (head.length !== undefined && head.length > bodyBytesMax) throw tooLarge(bodyBytesMax);
    if (head.hasBody && this.#expects) this.#response.writeContinue();
    const taken = head.hasBody ? await takeBody(this.#request, { bytesMax: bodyBytesMax, budget: bodies }) : undefined;
    const late = () => fail(DEADLINE, `${service} did not answer ${route.operation} within ${route.timeoutMs} ms`);
    const ticket = new Ticket({ timeoutMs: route.timeoutMs, clock, late });
    this.#ticket = ticket;
    // The client may have gone while its body was read or its token verified.
    if (this.#response.destroyed) ticket.end(gone());
    const lead = this.#leadOf(head, visit, bare ? undefined : (taken?.body?.length ?? 0));
    try {
      const sent = await this.#o.upstream.send({
        service,
        operation: route.operation,
        safe: route.safe,
        body: taken?.body,
        ticket,
        head: (instance, leftMs) =>
          `${lead}${HEADER.timeout}: ${Math.max(1, Math.ceil(leftMs))}\r\n${HEADER.instance}: ${instance}\r\n\r\n`,
      });
      await this.#giveBack(sent, service);
    } finally {
      taken?.done();
    }
  }

  /** The head that goes on, but for what is said to one instance alone. */
  #leadOf(head: Head, visit: Visit, length: number | undefined): string {
    const { path, query } = visit.target!;
    const behind = path.slice(path.indexOf("/", 1));
    return (
      `${visit.route!.method} ${behind}${query} HTTP/1.1\r\nhost: ${visit.service}\r\n` +
      `${HEADER.traceparent}: ${traceparent({ requestId: this.#requestId, spanId: this.#spanId })}\r\n` +
      `${HEADER.correlationId}: ${this.#requestId}\r\n${HEADER.subject}: ${visit.verdict!.header}\r\n` +
      `x-forwarded-for: ${this.#request.socket.remoteAddress ?? ""}\r\nx-forwarded-proto: https\r\nx-forwarded-host: ${head.host}\r\n` +
      `${head.passed}${length === undefined ? "" : `content-length: ${length}\r\n`}`
    );
  }

  async #giveBack({ answer, done }: Sent, service: string): Promise<void> {
    if (this.#response.destroyed) {
      answer.cut();
      return done();
    }
    this.#response.once("close", done);
    if (answer.status < 400) return this.#stream(answer);
    // An error is in the one shape that services answer, or it tells more of the inside than it should.
    const body = await answer.gather(ERROR_BYTES_MAX).catch((error: Error) => {
      throw brokenOff(error);
    });
    if (body && isOurs(body, answer.headers)) {
      this.#status = answer.status;
      this.#bytes = body.length;
      if (this.#o.load.draining) this.#response.shouldKeepAlive = false;
      this.#response.writeHead(answer.status, answerHeaders(this.#ours(), answer.headers));
      return void this.#response.end(body);
    }
    this.#o.metrics.failed(service, "malformed");
    throw fail(
      GATEWAY_UPSTREAM_FAILED,
      `${service} answered with status ${answer.status} and no reason that can be passed on`,
    );
  }

  #stream(answer: Answer): void {
    const response = this.#response;
    this.#status = answer.status;
    if (this.#o.load.draining) response.shouldKeepAlive = false;
    response.writeHead(answer.status, answerHeaders(this.#ours(), answer.headers));
    deliver(answer, {
      response,
      ticket: this.#ticket!,
      sent: (bytes) => (this.#bytes += bytes),
      broken: (failure) => this.refuse(failure),
    });
  }

  /** The answer has been given, or the client has gone. */
  #over(): void {
    this.#o.load.running--;
    const finished = this.#response.writableFinished;
    this.#failure ??= finished ? undefined : gone();
    if (!finished) this.#ticket?.end(gone());
    this.#ticket?.stop();
    const status = finished || !this.#failure ? this.#status : statusOf(this.#failure);
    noteRequest(this.#o, {
      requestId: this.#requestId,
      spanId: this.#spanId,
      startMs: this.#startMs,
      visit: this.#visit,
      head: this.#head,
      failure: this.#failure,
      status,
      bytes: this.#bytes,
    });
  }
}

const gone = (): Failure => fail(GATEWAY_CLIENT_GONE, "the client has gone");

export const statusOf = (failure: Failure): number => STATUSES[failure.code] ?? failure.status;
