/** In what order services start: who is needed before who needs it, as far as that can be. */
import { meant } from "../kernel/identity/needs.ts";

export interface Needy {
  readonly name: string;
  /** Service keys; `*` at the end stands for any ending. */
  readonly needs: readonly string[];
}

/** Everyone needs these three without saying so: who one is, where the others are, what is noted. */
export const FOUNDATION = ["identity", "core-keeper", "trace"] as const;

/** Sorts services into levels: each needs only those of levels before it. What needs itself in a circle shares a level. */
export function levelsOf(services: readonly Needy[]): string[][] {
  const levels = new Map<string, number>();
  const depth = (service: Needy, path: readonly string[]): number => {
    const known = levels.get(service.name);
    if (known !== undefined) return known;
    const at = FOUNDATION.indexOf(service.name as (typeof FOUNDATION)[number]);
    // The foundation comes first, whatever it speaks to later (the registry tells of changes on the bus).
    let level = at < 0 ? FOUNDATION.length : at;
    for (const other of services) {
      if (
        other.name === service.name ||
        at >= 0 ||
        path.includes(other.name) ||
        !service.needs.some((need) => meant(need, other.name))
      )
        continue;
      level = Math.max(level, depth(other, [...path, service.name]) + 1);
    }
    if (path.length === 0) levels.set(service.name, level);
    return level;
  };
  const sorted: string[][] = [];
  for (const service of services) (sorted[depth(service, [])] ??= []).push(service.name);
  return sorted.filter((level) => level !== undefined);
}
