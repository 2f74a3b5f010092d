/** What holds for every noun of metadata: how one is found, listed, added and changed, and how many are answered at once. */
import { randomUUID } from "node:crypto";
import type { Call } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { type ItemResult, MAX_RESULT_COUNT } from "../../kernel/edgex.ts";
import { asFailure, type ErrorCode, fail } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import type { Announcer } from "./announce.ts";
import {
  METADATA_DEVICE_UNKNOWN,
  METADATA_INVALID,
  METADATA_NAME_TAKEN,
  METADATA_PROFILE_UNKNOWN,
  METADATA_RANGE,
  METADATA_SERVICE_UNKNOWN,
} from "./codes.ts";
import type { Filter, MetadataStore, Noun, Nouns } from "./store.ts";

export interface Needs {
  readonly store: MetadataStore;
  readonly clock: Clock;
  /** Tells the house what changed, and asks a device service whether it takes a device. */
  readonly announce: Announcer;
  readonly log: Log;
}

const UNKNOWN: Record<Noun, ErrorCode> = {
  device: METADATA_DEVICE_UNKNOWN,
  profile: METADATA_PROFILE_UNKNOWN,
  service: METADATA_SERVICE_UNKNOWN,
};
const WORD: Record<Noun, string> = { device: "device", profile: "device profile", service: "device service" };

/** What a patch says: `null` means "not given", as a nil pointer does in Go. */
export const given = <T extends object>(change: T): Partial<T> =>
  Object.fromEntries(Object.entries(change).filter(([, v]) => v !== null && v !== undefined)) as Partial<T>;

/** All things of one noun. */
export class Entities<N extends Noun> {
  readonly noun: N;
  readonly #needs: Needs;

  constructor(noun: N, needs: Needs) {
    this.noun = noun;
    this.#needs = needs;
  }

  has(name: string): boolean {
    return this.#needs.store.byName(this.noun, name) !== undefined;
  }

  /** Finds by name; METADATA_..._UNKNOWN. */
  named(name: string): Nouns[N] {
    const found = this.#needs.store.byName(this.noun, name);
    if (!found) throw fail(UNKNOWN[this.noun], `${WORD[this.noun]} '${name}' does not exist`);
    return found;
  }

  withId(id: string): Nouns[N] {
    const found = this.#needs.store.byId(this.noun, id);
    if (!found) throw fail(UNKNOWN[this.noun], `${WORD[this.noun]} '${id}' does not exist`);
    return found;
  }

  /** EdgeX names what to change by id or by name; both must agree where both are given. */
  either({ id, name }: { id?: string; name?: string }): Nouns[N] {
    if (!id && !name) throw fail(METADATA_INVALID, `a ${WORD[this.noun]} is named by id or name`);
    const found = id ? this.withId(id) : this.named(name!);
    if (name && name !== found.name)
      throw fail(METADATA_INVALID, `${WORD[this.noun]} id '${id}' is that of '${found.name}', not of '${name}'`);
    return found;
  }

  list(
    filter: Filter,
    { offset, limit }: { offset: number; limit: number },
  ): { totalCount: number; values: Nouns[N][] } {
    const { total, values } = this.#needs.store.list(
      this.noun,
      filter,
      offset,
      limit === -1 ? MAX_RESULT_COUNT : limit,
    );
    // EdgeX, count.go: where there is nothing, every offset is answered with an empty list.
    if (offset > total && total > 0) throw fail(METADATA_RANGE, `offset ${offset} is past the ${total} there are`);
    return { totalCount: total, values };
  }

  /** Adds; METADATA_NAME_TAKEN. */
  insert(value: Nouns[N]): Nouns[N] {
    const { store, clock } = this.#needs;
    this.refuseKnown(value);
    const now = clock.wallMs();
    const made = { ...value, id: value.id || randomUUID(), created: now, modified: now };
    store.put(this.noun, made);
    return made;
  }

  refuseKnown({ id, name }: { id?: string; name: string }): void {
    if (this.has(name)) throw fail(METADATA_NAME_TAKEN, `${WORD[this.noun]} '${name}' exists already`);
    if (id && this.#needs.store.byId(this.noun, id))
      throw fail(METADATA_NAME_TAKEN, `a ${WORD[this.noun]} with id '${id}' exists already`);
  }

  /** Puts something new in the place of something old, which gives it its identity. */
  replace(old: Nouns[N], made: Nouns[N]): Nouns[N] {
    const { store, clock } = this.#needs;
    const identity = { id: old.id, name: old.name, created: old.created, modified: clock.wallMs() };
    const kept = { ...made, ...identity } as Nouns[N];
    store.put(this.noun, kept);
    return kept;
  }

  remove(name: string): void {
    this.#needs.store.remove(this.noun, name);
  }
}

/** All nouns, with what their rules need. */
export interface House extends Needs {
  readonly devices: Entities<"device">;
  readonly profiles: Entities<"profile">;
  readonly services: Entities<"service">;
}

export const created = (id: string | undefined): Done => ({ statusCode: 201, ...(id ? { id } : {}) });

interface Done {
  readonly statusCode: number;
  readonly id?: string;
}

/** Answers a multi request item by item, in order (207): one that fails stops no other. `null` answers `null`. */
export async function each<T extends { requestId?: string }>(
  items: readonly T[] | null,
  call: Call,
  log: Log,
  work: (item: T) => Promise<Done>,
): Promise<ItemResult[] | null> {
  if (items === null) return null;
  const results: ItemResult[] = [];
  for (const item of items) {
    const base = { apiVersion: "v3", ...(item.requestId ? { requestId: item.requestId } : {}) };
    try {
      results.push({ ...base, ...(await work(item)) });
    } catch (error) {
      const failure = asFailure(error);
      // What was done of the items before must be answered: the error of this one alone is told.
      if (failure.kind === "internal" && failure.cause)
        log.error({ requestId: call.requestId, err: error }, failure.message);
      results.push({ ...base, statusCode: failure.status, message: failure.message });
    }
  }
  return results;
}
