/** Who is told of changes: the streams of watchers and holders, the queries that wait, and the one revision number. */
import { type Call, whenOver } from "../../kernel/call.ts";
import { fail } from "../../kernel/error.ts";
import { REGISTRY_FULL, REGISTRY_REVISION_GONE } from "./codes.ts";
import { History } from "./history.ts";
import type { Change, Instance, Listed } from "./instances.api.ts";
import { Watcher } from "./watcher.ts";

/** Streams that only watch; more are refused with REGISTRY_FULL. */
export const WATCHERS_MAX = 256;
/** Queries that wait for a change; more are refused with REGISTRY_FULL. */
const WAITING_MAX = 256;
/** Names that are asked for, known or not; at the limit all are looked up anew. */
const LISTED_MAX = 2_048;
/**
 * So much is written within PACE_MS for changes one by one, each to each stream, but BURST_MIN changes at least; those after
 * them wait for its end and go out together.
 */
const WRITES_MAX = 1_600;
const BURST_MIN = 4;
const PACE_MS = 100;
/** What one that comes back costs the registry, two handshakes and a snapshot, rounded up. */
const RETURN_MS = 4;

interface Joined {
  revision: number;
  readonly kind: Change["kind"];
  readonly instances: Map<string, Instance>;
}

export class Audience {
  /** Those that are there now. */
  readonly instances: () => Instance[];
  readonly #history: History;
  readonly #firstRevision: number;
  /** Of watchers and of holders. */
  readonly #streams = new Set<Watcher>();
  readonly #waiting = new Set<(service: string) => void>();
  /** The last revision of each service that ever was here. */
  readonly #revisions = new Map<string, number>();
  #snapshot: Change | undefined;
  /** What was asked for since it last changed. */
  readonly #listed = new Map<string | undefined, Listed>();
  #watchers = 0;
  /** Changes that were told since the pace began, and those that wait for its end. */
  #told = 0;
  #later: Joined[] = [];
  #isPaced = false;

  /** Begins after a revision; `instances` are what a snapshot shows. */
  constructor(revision: number, instances: () => Instance[]) {
    this.#history = new History(revision);
    this.#firstRevision = revision;
    this.instances = instances;
  }

  get watchers(): number {
    return this.#watchers;
  }

  get revision(): number {
    return this.#history.revision;
  }

  /** The last revision in which something of a service changed. */
  revisionOf(service: string): number {
    return this.#revisions.get(service) ?? this.#firstRevision;
  }

  /** All there is; the same value until something changes. */
  get snapshot(): Change & { readonly instances: Instance[] } {
    if (this.#snapshot) return this.#snapshot;
    const instances = this.instances();
    instances.sort((a, b) => (a.service + "/" + a.instance < b.service + "/" + b.instance ? -1 : 1));
    const spreadMs = this.#spreadMs();
    this.#snapshot = Object.freeze({ revision: this.revision, kind: "snapshot" as const, spreadMs, instances });
    return this.#snapshot;
  }

  /** What is there, of one service or of all; the same frozen value until something of it changes. */
  list(service: string | undefined): Listed {
    const known = this.#listed.get(service);
    if (known) return known;
    const { revision, instances } = this.snapshot;
    const listed = Object.freeze(
      service === undefined
        ? { revision, instances }
        : { revision: this.revisionOf(service), instances: instances.filter((i) => i.service === service) },
    );
    if (this.#listed.size >= LISTED_MAX) this.#listed.clear();
    this.#listed.set(service, listed);
    return listed;
  }

  /** Gives a change its revision and tells everybody; answers the instance with it. */
  tell(kind: "up" | "changed" | "down", instance: Instance): Instance {
    const change = this.#history.add((revision) => ({ revision, kind, instances: [{ ...instance, revision }] }));
    this.#snapshot = undefined;
    this.#listed.delete(undefined);
    this.#listed.delete(instance.service);
    this.#revisions.set(instance.service, change.revision);
    this.#send(change);
    for (const look of this.#waiting) look(instance.service);
    return change.instances[0];
  }

  /**
   * A change by itself goes out at once. When a herd comes back, each of its changes would go to each of it: they are told
   * together, and written once (a frozen item of a stream is encoded once, for all who get it).
   */
  #send(change: Change): void {
    if (!this.#isPaced) this.#pace();
    if (this.#told++ < Math.max(BURST_MIN, WRITES_MAX / this.#streams.size)) this.#push(change);
    else join(this.#later, change);
  }

  #pace(): void {
    this.#isPaced = true;
    setTimeout(() => this.#sendLater(), PACE_MS).unref();
  }

  #sendLater(): void {
    const later = this.#later;
    this.#later = [];
    this.#isPaced = false;
    // A storm that goes on is told of at each pace, until one brings nothing.
    this.#told = later.length === 0 ? 0 : WRITES_MAX;
    if (later.length > 0) this.#pace();
    for (const { revision, kind, instances } of later)
      this.#push({ revision, kind, instances: [...instances.values()] });
  }

  #push(change: Change): void {
    Object.freeze(change);
    for (const stream of this.#streams) stream.push(change);
  }

  /** Refuses at once, so that it is an answer and not a broken stream. REGISTRY_FULL, REGISTRY_REVISION_GONE. */
  watch(after: number | undefined, call: Call): AsyncIterable<Change> {
    if (this.#watchers >= WATCHERS_MAX)
      throw fail(REGISTRY_FULL, `the registry has ${WATCHERS_MAX} watchers, no room for another`, { retryAfterS: 1 });
    if (after !== undefined && !this.#history.since(after))
      throw fail(
        REGISTRY_REVISION_GONE,
        `what changed after revision ${after} is not known here; the present one is ${this.revision}`,
      );
    return this.#watched(after, call);
  }

  async *#watched(after: number | undefined, call: Call): AsyncGenerator<Change> {
    if (call.signal.aborted) return;
    const watcher = new Watcher();
    const stop = whenOver(call, () => watcher.end());
    this.#watchers++;
    try {
      yield* this.changes(watcher, after);
    } finally {
      stop();
      this.#watchers--;
    }
  }

  /** Streams what changed after a revision, where that is known, or all there is; then all changes, until the watcher's end. */
  async *changes(watcher: Watcher, after: number | undefined): AsyncGenerator<Change> {
    this.#streams.add(watcher);
    try {
      const missed = after === undefined ? undefined : this.#history.since(after);
      if (missed) {
        watcher.resume(this.revision, missed);
        yield { revision: after!, kind: "resumed", spreadMs: this.#spreadMs(), instances: [] };
      }
      yield* watcher.changes(() => this.snapshot);
    } finally {
      this.#streams.delete(watcher);
    }
  }

  /** Resolves at the next change (of a service, or any), after `waitMs`, or when the call is over. REGISTRY_FULL. */
  async wait(service: string | undefined, waitMs: number, call: Call): Promise<void> {
    if (this.#waiting.size >= WAITING_MAX)
      throw fail(REGISTRY_FULL, `${WAITING_MAX} queries wait already, no room for another`, { retryAfterS: 1 });
    const done = Promise.withResolvers<void>();
    const look = (changed: string) => {
      if (service === undefined || changed === service) done.resolve();
    };
    this.#waiting.add(look);
    const timer = setTimeout(done.resolve, waitMs).unref();
    const stop = whenOver(call, () => done.resolve());
    await done.promise;
    stop();
    clearTimeout(timer);
    this.#waiting.delete(look);
  }

  /** Over how long those who are here should spread when they come back together. */
  #spreadMs(): number {
    return this.#streams.size * RETURN_MS;
  }
}

/** Adds a change to others: to the last of them where it is of the same kind. The revision of several is that of the last. */
function join(changes: Joined[], { revision, kind, instances: [instance] }: Change): void {
  let last = changes.at(-1);
  if (last?.kind !== kind) changes.push((last = { revision, kind, instances: new Map() }));
  last.revision = revision;
  last.instances.set(instance.instance, instance);
}
