/** Who follows the journal and how far each is: what all of them keep may go. */
import type { Clock } from "../../kernel/clock.ts";
import { asFailure, fail } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import { BUS_FOLLOWER_REFUSED } from "./api.ts";
import type { Store } from "./store.ts";

/** Followers known by name; a further one may follow, but nothing is kept for it. */
const FOLLOWERS_MAX = 256;
/** Positions, marks and epochs go to the disk after so long: they only shorten the next start and free space. */
const SAVE_MS = 5_000;
/** The same where space is short: a follower that confirms makes room. */
const SAVE_SOON_MS = 1_000;
/**
 * Above this part of the size cap the health is `warning`, and followers that are not expected are waited for no
 * longer.
 */
export const FULLNESS_WARNED = 0.8;

export interface FollowersOptions {
  readonly store: Store;
  /** Followers that must have confirmed before anything goes. */
  readonly expected: readonly string[];
  readonly sizeBytesMax: number;
  readonly keepBytes: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Up to here every record is in the marks. */
  readonly settledThrough: () => number;
}

export class Followers {
  readonly #options: FollowersOptions;
  readonly #connected = new Map<string, number>();
  readonly #leftBehind = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #dueMs = Number.POSITIVE_INFINITY;
  #settling: Promise<void> = Promise.resolve();

  constructor(options: FollowersOptions) {
    this.#options = options;
    for (const name of options.expected) if (!options.store.followers.has(name)) options.store.followers.set(name, 0);
  }

  get fullness(): number {
    return this.#options.store.journal.sizeBytes / this.#options.sizeBytesMax;
  }

  list(): { name: string; position: number; connected: boolean }[] {
    return [...this.#options.store.followers].map(([name, position]) => ({
      name,
      position,
      connected: this.#connected.has(name),
    }));
  }

  /**
   * A follower begins after a position. It may read in several streams at once, each where it is: only what it confirms
   * moves its place forward. Returns how to say that it ended.
   */
  begin(name: string, caller: string, after: number): () => void {
    checkOwn(name, caller);
    if (after < (this.#options.store.followers.get(name) ?? Number.POSITIVE_INFINITY)) this.#place(name, after);
    this.#connected.set(name, (this.#connected.get(name) ?? 0) + 1);
    return () => {
      const left = (this.#connected.get(name) ?? 1) - 1;
      if (left > 0) this.#connected.set(name, left);
      else this.#connected.delete(name);
    };
  }

  /** A follower keeps all up to a position. */
  confirm(name: string, caller: string, position: number): void {
    checkOwn(name, caller);
    const { followers } = this.#options.store;
    if (position > (followers.get(name) ?? -1)) this.#place(name, position);
  }

  #place(name: string, position: number): void {
    const { store, log } = this.#options;
    if (!store.followers.has(name) && store.followers.size >= FOLLOWERS_MAX) {
      log.warn({ follower: name }, `more than ${FOLLOWERS_MAX} followers: what this one has not read may go`);
      return;
    }
    store.followers.set(name, Math.min(position, store.journal.last));
    this.#leftBehind.delete(name);
    this.saveLater();
  }

  /** Sees to it that the state is saved before long, and what nobody needs is trimmed. */
  saveLater(): void {
    const delayMs = this.fullness > FULLNESS_WARNED ? SAVE_SOON_MS : SAVE_MS;
    const dueMs = this.#options.clock.monotonicMs() + delayMs;
    if (this.#timer && dueMs >= this.#dueMs) return;
    clearTimeout(this.#timer);
    this.#dueMs = dueMs;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.settle();
    }, delayMs);
    this.#timer.unref();
  }

  /**
   * Saves the state, then trims what is behind all followers. A disk that takes no state frees nothing, and is only
   * logged.
   */
  settle(): Promise<void> {
    this.#settling = this.#settling.then(() => this.#settle());
    return this.#settling;
  }

  async #settle(): Promise<void> {
    const { store, log } = this.#options;
    const through = this.#options.settledThrough();
    let saved = true;
    await store.save(through).catch((error: unknown) => {
      saved = false;
      log.warn({ err: asFailure(error).message }, "the bus's state could not be saved; it is tried again");
    });
    // A full disk cannot take the state before something went. Then what goes is what the state before this one covers.
    const target = Math.min(this.#target(), saved ? through : store.savedThrough);
    if (target < store.journal.first) return;
    await store.journal
      .trim(target)
      .catch((error: unknown) =>
        log.warn({ err: asFailure(error).message }, "the journal could not be trimmed; it is tried again"),
      );
  }

  /** The last position that may go. */
  #target(): number {
    const { store, keepBytes, expected, log } = this.#options;
    const { first, last, sizeBytes } = store.journal;
    // Records are of like size over time: enough to keep about so many bytes.
    const perRecord = sizeBytes / Math.max(1, last - first + 1);
    let target = last - Math.ceil(keepBytes / Math.max(1, perRecord));
    for (const [name, position] of store.followers) {
      if (position >= target) continue;
      if (this.fullness > FULLNESS_WARNED && !expected.includes(name)) {
        if (!this.#leftBehind.has(name))
          log.warn(
            { follower: name, position },
            "the journal is nearly full: this follower is no longer waited for, and will be told of the gap",
          );
        this.#leftBehind.add(name);
        continue;
      }
      target = position;
    }
    return target;
  }

  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.settle();
  }
}

/** A service speaks for its own followers alone: another's confirmation could drop what that one needs. */
function checkOwn(name: string, caller: string): void {
  if (name === caller || (name.startsWith(caller) && /^[/:.]/.test(name.slice(caller.length)))) return;
  throw fail(BUS_FOLLOWER_REFUSED, `'${caller}' may not follow as '${name.slice(0, 100)}'`);
}
