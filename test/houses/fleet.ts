/** Registries of several nodes that share a board, each with a table of its own, without a wire between them and their holders. */
import { setTimeout as sleep } from "node:timers/promises";
import { makeCall } from "../../src/kernel/call.ts";
import type { Instance } from "../../src/services/registry/api.ts";
import type { Board } from "../../src/services/registry/fleet/board.ts";
import { Fleet } from "../../src/services/registry/fleet/fleet.ts";
import { Held } from "./leases.ts";
import { instanceOf, quiet, registryOf } from "./registry.ts";

export const FLEET_TTL_MS = 2_000;

/** A node of a fleet: its registry, and what it sees. */
export class Keeper {
  readonly running = registryOf({ ttlMs: 1_500, renewMs: 500, revision: Date.now() });
  readonly #stopping = new AbortController();
  readonly #ticking = setInterval(() => this.running.tick(), 50);
  readonly fleet: Fleet | undefined;

  /** Without a board it is alone. */
  constructor(node: string, board: Board | undefined, authority = node) {
    const { roster } = this.running;
    const signal = this.#stopping.signal;
    this.fleet = board && new Fleet({ board, roster, node, authority, ttlMs: FLEET_TTL_MS, log: quiet, signal });
  }

  /** Holds a lease that is renewed until its call ends. */
  hold(service: string, id: string): Held {
    const held = new Held(this.running, instanceOf(service, id));
    const renewing = setInterval(() => {
      if (held.changes.length > 0) this.running.roster.renew(held.lease, { state: "passing" }, held.call);
    }, 300);
    const stop = () => clearInterval(renewing);
    held.call.signal.addEventListener("abort", stop, { once: true });
    void held.done.finally(stop);
    return held;
  }

  /** What it shows of a service, a line an instance: its id without the node's name, its state. */
  shown(service: string): string[] {
    const { instances } = this.running.roster.list(service);
    return instances.map(({ instance, state }) => `${instance.replace(/^.*\//, "")} ${state}`).sort();
  }

  instance(id: string): Instance | undefined {
    return this.running.roster.list().instances.find(({ instance }) => instance.replace(/^.*\//, "") === id);
  }

  /** Resolves when what it shows of a service is this. */
  async shows(service: string, expected: readonly string[], timeoutMs = 10_000): Promise<void> {
    const wanted = expected.join();
    const call = makeCall({ caller: "node", timeoutMs: Number.POSITIVE_INFINITY });
    const late = sleep(timeoutMs, undefined, { ref: false }).then(() => call.end(true));
    try {
      for await (const _ of this.running.service.watch({}, call)) if (this.shown(service).join() === wanted) return;
    } finally {
      call.end(true);
      void late;
    }
    throw new Error(
      `after ${timeoutMs} ms it shows ${JSON.stringify(this.shown(service))}, not ${JSON.stringify(expected)}: ${this.fleet?.trouble}`,
    );
  }

  async stop(): Promise<void> {
    clearInterval(this.#ticking);
    this.#stopping.abort();
    await this.fleet?.over;
    this.running.remove();
  }
}
