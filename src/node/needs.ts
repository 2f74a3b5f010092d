/** What a service says that it needs, held against the registry's table. */
import type { Clock } from "../kernel/clock.ts";
import type { Table } from "../services/registry/client.ts";

/** A service is away for a moment when it is restarted; that is no trouble of others yet. */
const GONE_MS = 2_000;

export class Needs {
  readonly #names: readonly string[];
  readonly #table: Table;
  readonly #clock: Clock;
  readonly #goneSinceMs = new Map<string, number>();

  /** Needs that stand for any of several (`device-*`) are not missed. */
  constructor(needs: readonly string[], table: Table, clock: Clock) {
    this.#names = needs.filter((need) => !need.includes("*"));
    this.#table = table;
    this.#clock = clock;
  }

  /** Those that were there and have been gone for GONE_MS; to be asked every second or so. */
  missing(): string[] {
    const nowMs = this.#clock.monotonicMs();
    return this.#names.filter((name) => {
      if (!this.#table.knows(name) || this.#isUp(name)) {
        this.#goneSinceMs.delete(name);
        return false;
      }
      const sinceMs = this.#goneSinceMs.get(name) ?? nowMs;
      this.#goneSinceMs.set(name, sinceMs);
      return nowMs - sinceMs >= GONE_MS;
    });
  }

  #isUp(name: string): boolean {
    return this.#table
      .of(name)
      .some(({ instance: i }) => i.state !== "critical" && !i.maintenance && i.check === undefined);
  }
}
