/** Asks instances again and again whether they work, where the routes file says so. */
import type { Clock } from "../../../kernel/clock.ts";
import { DEADLINE, fail } from "../../../kernel/error.ts";
import { HEADER } from "../../../kernel/wire.ts";
import { Ticket } from "../ticket.ts";
import type { UpstreamSettings } from "../upstream.api.ts";
import type { Balancer } from "./balancer.ts";
import type { Connections } from "./connections.ts";
import type { Endpoint } from "./endpoint.ts";
import type { Group } from "./group.ts";

export interface ChecksOptions {
  readonly balancer: Balancer;
  readonly connections: Connections;
  readonly clock: Clock;
}

type Check = NonNullable<UpstreamSettings["check"]>;

/** Answers in a row, good above zero, bad below it. */
const streaks = new WeakMap<Endpoint, number>();

export class Checks {
  readonly #options: ChecksOptions;
  #timers: NodeJS.Timeout[] = [];

  constructor(options: ChecksOptions) {
    this.#options = options;
  }

  /** Begins anew, by the settings that the groups have now. */
  restart(): void {
    this.stop();
    for (const group of this.#options.balancer.groups) {
      const { check } = group.settings;
      if (check) this.#timers.push(setInterval(() => this.#round(group, check), check.everyMs).unref());
      else for (const endpoint of group.endpoints) endpoint.unwell = false;
    }
  }

  stop(): void {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
  }

  #round(group: Group, check: Check): void {
    for (const endpoint of group.endpoints) void this.#look(endpoint, check);
  }

  async #look(endpoint: Endpoint, check: Check): Promise<void> {
    const good = await this.#isGood(endpoint, check);
    const former = streaks.get(endpoint) ?? 0;
    const streak = good ? Math.max(0, former) + 1 : Math.min(0, former) - 1;
    streaks.set(endpoint, streak);
    if (streak >= check.goodMin) endpoint.unwell = false;
    if (-streak >= check.badMin) endpoint.unwell = true;
  }

  async #isGood(endpoint: Endpoint, { path, timeoutMs }: Check): Promise<boolean> {
    const { connections, clock } = this.#options;
    const ticket = new Ticket({ timeoutMs, clock, late: () => fail(DEADLINE, "a check took too long") });
    try {
      const connection = await connections.take(endpoint, ticket);
      const inside = endpoint.security === "peer";
      const own = inside ? `${HEADER.timeout}: ${timeoutMs}\r\n${HEADER.instance}: ${endpoint.instance}\r\n` : "";
      const host = inside ? endpoint.service : endpoint.instance;
      const head = `GET ${path} HTTP/1.1\r\nhost: ${host}\r\n${own}\r\n`;
      const answer = await connection.send({ head, body: undefined }, ticket);
      await answer.gather(CHECK_BYTES_MAX);
      return answer.status < 400;
    } catch {
      // Whatever it was: it did not answer well.
      return false;
    } finally {
      ticket.stop();
    }
  }
}

/** More of an answer than this is not read; the connection is cut. */
const CHECK_BYTES_MAX = 65_536;
