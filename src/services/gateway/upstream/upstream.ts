/** Sends a request to an upstream: picks an instance, lends a connection, tries another where that cannot do a thing twice. */
import { DEADLINE, Failure, fail, INSTANCE_MISDIRECTED, UNAVAILABLE } from "../../../kernel/error.ts";
import type { Clock } from "../../../kernel/clock.ts";
import type { Metrics } from "../metrics.ts";
import type { Ticket } from "../ticket.ts";
import type { Answer } from "./answer.ts";
import type { Balancer } from "./balancer.ts";
import { type Interim, Unanswered } from "./connection.ts";
import type { Connections } from "./connections.ts";
import type { Endpoint } from "./endpoint.ts";
import type { Group } from "./group.ts";
import { hedged } from "./hedge.ts";
import type { Tries } from "./tries.ts";

const MISDIRECTED = 421;
/** Answers that tell of an upstream in trouble. */
const BAD: ReadonlySet<number> = new Set([500, 502, 503, 504]);

export interface Order {
  readonly service: string;
  readonly operation: string;
  /** May be done again where it is not known whether it was done. */
  readonly safe: boolean;
  readonly body: Buffer | undefined;
  /** HEAD: the answer has no body. */
  readonly bodyless?: boolean;
  readonly interim?: Interim;
  readonly ticket: Ticket;
  /** What an instance is chosen by, where it is chosen by a key. */
  readonly key: string;
  readonly tries: Tries;
  /** Writes the head for an instance. */
  readonly head: (endpoint: Endpoint, leftMs: number) => string;
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

/** One try took longer than a try may. */
class TryLate extends Failure {}

export class Upstream {
  readonly #options: UpstreamOptions;

  constructor(options: UpstreamOptions) {
    this.#options = options;
  }

  /** Sends an order and waits for the head of its answer; UNAVAILABLE, GATEWAY_BUSY, GATEWAY_BREAKER_OPEN, or what ended the ticket. */
  send(order: Order): Promise<Sent> {
    const group = this.#options.balancer.group(order.service);
    return group.breaker || group.bulkhead ? this.#guarded(group, order) : this.#ask(group, order);
  }

  async #guarded(group: Group, order: Order): Promise<Sent> {
    const { breaker, bulkhead } = group;
    breaker?.admit();
    let good: boolean | undefined;
    try {
      if (bulkhead) {
        const sinceMs = this.#options.clock.monotonicMs();
        await bulkhead.enter(order.ticket);
        order.ticket.queuedMs += this.#options.clock.monotonicMs() - sinceMs;
      }
      const sent = await this.#within(group, order);
      good = !BAD.has(sent.answer.status);
      return sent;
    } catch (error) {
      if (error instanceof Failure && (error.code === UNAVAILABLE.code || error.code === DEADLINE.code)) good = false;
      throw error;
    } finally {
      breaker?.note(good);
    }
  }

  /** Leaves the bulkhead when the answer is over. */
  async #within(group: Group, order: Order): Promise<Sent> {
    const { bulkhead } = group;
    try {
      const { answer, done } = await this.#ask(group, order);
      return {
        answer,
        done() {
          done();
          bulkhead?.leave();
        },
      };
    } catch (error) {
      bulkhead?.leave();
      throw error;
    }
  }

  #ask(group: Group, order: Order): Promise<Sent> {
    const { hedge } = order.tries;
    if (!hedge || !order.safe) return this.#try(group, order, order.ticket, new Set());
    const ask = (ticket: Ticket, tried: Set<Endpoint>, picked?: (endpoint: Endpoint) => void) =>
      this.#try(group, order, ticket, tried, picked);
    return hedged({ hedge, group, ticket: order.ticket, metrics: this.#options.metrics, ask });
  }

  /** Tries until there is an answer, as often as the order may be tried. */
  async #try(
    group: Group,
    order: Order,
    ticket: Ticket,
    tried: Set<Endpoint>,
    picked?: (endpoint: Endpoint) => void,
  ): Promise<Sent> {
    const { triesMax, statuses } = order.tries;
    const { clock } = this.#options;
    const sinceMs = clock.monotonicMs();
    group.retries.earn();
    for (let tries = 1; ; tries++) {
      const found = group.pick(tried, { ticket, key: order.key, sinceMs });
      const endpoint = found instanceof Promise ? await found : found;
      picked?.(endpoint);
      endpoint.running++;
      try {
        const { own, connection: lent } = this.#lend(order, endpoint, ticket);
        const connection = lent instanceof Promise ? await lent : lent;
        const startMs = group.measured ? clock.monotonicMs() : 0;
        const { body, bodyless = false, interim } = order;
        const answer = await connection.send({ head: order.head(endpoint, own.leftMs), body, bodyless, interim }, own);
        if (own !== ticket) own.stop();
        this.#look(group, endpoint, answer, startMs);
        const again = statuses.includes(answer.status) && order.safe && tries < triesMax && group.retries.spend();
        if (!again) return { answer, done: () => void endpoint.running-- };
        answer.cut();
        endpoint.running--;
        tried.add(endpoint);
        // Where all have been asked, whichever is best is asked again.
        if (!group.choose(tried)) tried.clear();
      } catch (error) {
        endpoint.running--;
        if (!this.#mayTryAgain(group, order, endpoint, tried, error) || tries >= triesMax)
          throw this.#asFailure(order, error);
      }
      order.ticket.retries++;
      this.#options.metrics.retried(order.service);
    }
  }

  /** Lends a connection, and a ticket that lasts no longer than a try may take. */
  #lend({ tries, safe, body }: Order, endpoint: Endpoint, ticket: Ticket) {
    const { connections } = this.#options;
    const { tryTimeoutMs, coalesce } = tries;
    const own =
      tryTimeoutMs === undefined
        ? ticket
        : ticket.child(tryTimeoutMs, () => new TryLate(DEADLINE, `a try took longer than ${tryTimeoutMs} ms`));
    const shares = coalesce && safe && !body;
    return { own, connection: shares ? connections.share(endpoint, own) : connections.take(endpoint, own) };
  }

  /** Looks what the answer says of its instance; INSTANCE_MISDIRECTED where that is another one. */
  #look(group: Group, endpoint: Endpoint, answer: Answer, startMs: number): void {
    if (answer.status === MISDIRECTED && endpoint.security === "peer") {
      answer.cut();
      throw fail(INSTANCE_MISDIRECTED, `another instance than ${endpoint.instance} is there`);
    }
    if (group.measured) note(group, endpoint, this.#options.clock.monotonicMs(), startMs);
    group.answered(endpoint, !BAD.has(answer.status));
  }

  /** What was not taken by anybody may be sent again, and what only reads; never what might have been done. */
  #mayTryAgain(group: Group, order: Order, endpoint: Endpoint, tried: Set<Endpoint>, error: unknown): boolean {
    const { connections, metrics } = this.#options;
    if (error instanceof TryLate) {
      metrics.failed(order.service, "late");
      group.answered(endpoint, false);
      if (group.endpoints.length > 1) tried.add(endpoint);
      return order.safe && group.retries.spend();
    }
    if (error instanceof Failure) {
      // The deadline, the client's going, a full queue: no other instance would help. A peer of another name would.
      if (error.kind !== "misdirected") return false;
      // Its port has gone to somebody else; the registry is about to tell.
      connections.dropIdle(endpoint);
      metrics.failed(order.service, "misdirected");
      tried.add(endpoint);
      return true;
    }
    if (error instanceof Unanswered) {
      metrics.failed(order.service, "broken");
      connections.dropIdle(endpoint);
      const may = order.safe && group.retries.spend();
      // A kept connection that ended says nothing of the instance: a new one is tried.
      if (error.reused) return may;
      group.failed(endpoint);
      tried.add(endpoint);
      return may;
    }
    metrics.failed(order.service, "connect");
    group.failed(endpoint);
    tried.add(endpoint);
    return true;
  }

  #asFailure({ service, operation }: Order, error: unknown): Failure {
    if (error instanceof Failure && error.kind !== "misdirected") return error;
    const cause = error instanceof Unanswered ? error.cause : error;
    const reason = (cause as { code?: string }).code ?? (error instanceof Unanswered ? "BROKEN" : "CONNECT");
    return fail(UNAVAILABLE, `${service} did not answer ${operation} (${reason})`, { retryAfterS: 1, cause: error });
  }
}

function note(group: Group, endpoint: Endpoint, nowMs: number, startMs: number): void {
  group.latencies.note(nowMs - startMs);
  endpoint.took(nowMs - startMs, nowMs);
}
