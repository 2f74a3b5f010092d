/** How often each operation was done since the start: two looks at it tell the throughput between them. */
import type { StoredSpan } from "../api.ts";

/** Operations that are counted; those beyond have no throughput. */
const ACTIONS_MAX = 4_096;

export class Totals {
  readonly #counts = new Map<string, number>();

  add(spans: readonly StoredSpan[]): void {
    for (const { service, operation } of spans) {
      const key = `${service} ${operation}`;
      const known = this.#counts.get(key);
      if (known !== undefined || this.#counts.size < ACTIONS_MAX) this.#counts.set(key, (known ?? 0) + 1);
    }
  }

  of(service: string, operation: string): number {
    return this.#counts.get(`${service} ${operation}`) ?? 0;
  }
}
