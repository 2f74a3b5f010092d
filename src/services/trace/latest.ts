/** The metrics that each instance told last: kept in memory, since each tells them again within seconds. */
import type { Clock } from "../../kernel/clock.ts";
import type { Family } from "../../kernel/metrics/metrics.ts";
import type { Told } from "./metrics.api.ts";

/** Instances at once; the one that was silent longest goes. */
const INSTANCES_MAX = 256;
/** An instance that has not told anything for so long is gone. */
const SILENT_MS_MAX = 30_000;

interface Kept {
  readonly service: string;
  readonly families: readonly Family[];
  readonly atMs: number;
}

export class Latest {
  readonly #clock: Clock;
  /** The one that told longest ago first. */
  readonly #kept = new Map<string, Kept>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  take(service: string, instance: string, families: readonly Family[]): void {
    const key = `${service} ${instance}`;
    this.#kept.delete(key);
    this.#kept.set(key, { service, families, atMs: this.#clock.monotonicMs() });
    if (this.#kept.size > INSTANCES_MAX) this.#kept.delete(this.#kept.keys().next().value!);
  }

  forget(service: string, instance: string): void {
    this.#kept.delete(`${service} ${instance}`);
  }

  all(): Told[] {
    const nowMs = this.#clock.monotonicMs();
    for (const [key, { atMs }] of this.#kept) if (nowMs - atMs > SILENT_MS_MAX) this.#kept.delete(key);
    return [...this.#kept].map(([key, { service, families, atMs }]) => ({
      service,
      instance: key.slice(service.length + 1),
      ageS: (nowMs - atMs) / 1000,
      families: families as Told["families"],
    }));
  }
}
