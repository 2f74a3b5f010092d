/** Sends a request to a service: picks an instance, lends a connection, tries another where that cannot do a thing twice. */
import { Failure, fail, INSTANCE_MISDIRECTED, UNAVAILABLE } from "../../../kernel/error.ts";
import type { Clock } from "../../../kernel/clock.ts";
import type { Answer } from "./answer.ts";
import type { Balancer, Endpoint } from "./balancer.ts";
import { Unanswered } from "./connection.ts";
import type { Connections } from "./connections.ts";
import type { Metrics } from "../metrics.ts";
import type { Ticket } from "../ticket.ts";

const TRIES_MAX = 3;
const MISDIRECTED = 421;

export interface Order {
  readonly service: string;
  readonly operation: string;
  /** May be done again where it is not known whether it was done. */
  readonly safe: boolean;
  readonly body: Buffer | undefined;
  readonly ticket: Ticket;
  /** Writes the head for an instance. */
  head(instance: string, leftMs: number): string;
}

export interface UpstreamOptions {
  readonly balancer: Balancer;
  readonly connections: Connections;
  readonly metrics: Metrics;
  readonly clock: Clock;
}

/** An answer that has begun. */
export interface Sent {
  readonly answer: Answer;
  /** To be called when the answer is over, however it ends: the instance is less busy. */
  readonly done: () => void;
}

export class Upstream {
  readonly #options: UpstreamOptions;

  constructor(options: UpstreamOptions) {
    this.#options = options;
  }

  /** Sends an order and waits for the head of its answer; UNAVAILABLE, GATEWAY_BUSY, or what ended the ticket. */
  async send(order: Order): Promise<Sent> {
    const { balancer, clock } = this.#options;
    const sinceMs = clock.monotonicMs();
    const tried = new Set<Endpoint>();
    for (let tries = 1; ; tries++) {
      const picked = balancer.pick(order.service, tried, order.ticket, sinceMs);
      const endpoint = picked instanceof Promise ? await picked : picked;
      endpoint.running++;
      try {
        const answer = await this.#try(order, endpoint);
        if (answer) {
          endpoint.forgive();
          return { answer, done: () => void endpoint.running-- };
        }
        tried.add(endpoint);
        if (tries === TRIES_MAX) throw this.#unavailable(order, INSTANCE_MISDIRECTED.code);
        endpoint.running--;
      } catch (error) {
        endpoint.running--;
        if (!this.#mayTryAgain(order, endpoint, tried, error) || tries === TRIES_MAX)
          throw this.#asFailure(order, error);
      }
      this.#options.metrics.retried(order.service);
    }
  }

  /** Gives undefined where another instance than the one meant was there. */
  async #try(order: Order, endpoint: Endpoint): Promise<Answer | undefined> {
    const { connections } = this.#options;
    const taken = connections.take(endpoint, order.ticket);
    const connection = taken instanceof Promise ? await taken : taken;
    const answer = await connection.send(order.head(endpoint.instance, order.ticket.leftMs), order.body, order.ticket);
    if (answer.status !== MISDIRECTED) return answer;
    // Its port has gone to somebody else; the registry is about to tell.
    answer.cut();
    connections.dropIdle(endpoint);
    this.#options.metrics.failed(order.service, "misdirected");
    return undefined;
  }

  /** What was not taken by anybody may be sent again, and what only reads; never what might have been done. */
  #mayTryAgain(order: Order, endpoint: Endpoint, tried: Set<Endpoint>, error: unknown): boolean {
    if (error instanceof Failure) {
      // The deadline, the client's going, a full queue: no other instance would help. A peer of another name would.
      if (error.kind !== "misdirected") return false;
    }
    const { balancer, connections, metrics } = this.#options;
    if (error instanceof Unanswered) {
      metrics.failed(order.service, "broken");
      connections.dropIdle(endpoint);
      // A kept connection that ended says nothing of the instance: a new one is tried.
      if (error.reused) return order.safe;
      balancer.failed(endpoint);
      tried.add(endpoint);
      return order.safe;
    }
    metrics.failed(order.service, "connect");
    balancer.failed(endpoint);
    tried.add(endpoint);
    return true;
  }

  #asFailure(order: Order, error: unknown): Failure {
    if (error instanceof Failure && error.kind !== "misdirected") return error;
    const cause = error instanceof Unanswered ? error.cause : error;
    const reason = (cause as { code?: string }).code ?? (error instanceof Unanswered ? "BROKEN" : "CONNECT");
    return this.#unavailable(order, reason, error);
  }

  #unavailable({ service, operation }: Order, reason: string, cause?: unknown): Failure {
    return fail(UNAVAILABLE, `${service} did not answer ${operation} (${reason})`, {
      retryAfterS: 1,
      ...(cause === undefined ? {} : { cause }),
    });
  }
}
