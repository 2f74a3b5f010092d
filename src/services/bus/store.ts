/**
 * What the bus keeps: the journal, and beside it one small sealed file with what the journal's records do not say
 * quickly.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { asFailure } from "../../kernel/error.ts";
import { type BlockHead, decodeBlocks, headOfBlocks } from "../../kernel/events/codec.ts";
import { Forgotten, type Tombstone } from "../../kernel/events/forgotten.ts";
import { type Journal, openJournal } from "../../kernel/journal/journal.ts";
import { parseJson } from "../../kernel/json.ts";
import type { Log } from "../../kernel/log.ts";
import { openBytes, sealBytes } from "../../kernel/seal/bytes.ts";
import { replaceFile } from "../../kernel/seal/durable-file.ts";
import type { PurposeKeys } from "../../kernel/seal/store-keys.ts";
import { KIND, rangeOf } from "./records.ts";
import { Seen } from "./seen.ts";
import { Marks, type StoredMark } from "./sequences.ts";

const STATE_VERSION = 1;
const STATE_PURPOSE = "holdfast/bus/state/1";
const SEEN_MARGIN = 1024;
const REPLAY_BYTES = 4 * 1024 * 1024;
/** Epochs are seconds since 2020-01-01 (kernel/events/model). */
const EPOCH_ZERO_MS = Date.UTC(2020, 0, 1);

interface State {
  readonly version: number;
  readonly epoch: number;
  /** All records up to here are in the marks. */
  readonly position: number;
  readonly marks: readonly StoredMark[];
  readonly followers: readonly (readonly [name: string, position: number])[];
  /** Where replaying foreign ids starts. */
  readonly seenAfter: number;
  readonly forgotten?: readonly Tombstone[];
}

export interface StoreOptions {
  readonly directory: string;
  readonly key: (purpose: string) => Buffer;
  readonly keys: (purpose: string) => PurposeKeys;
  readonly sizeBytesMax: number;
  readonly idsMax: number;
  readonly wallMs: number;
  readonly log: Log;
}

export class Store {
  readonly journal: Journal;
  readonly marks = new Marks();
  readonly seen: Seen;
  readonly followers = new Map<string, number>();
  readonly forgotten: Forgotten;
  /** Resolves when the ids of strangers' events are known again; their events wait for it. */
  readonly recalled: Promise<void>;
  readonly epoch: number;
  readonly #path: string;
  readonly #key: Buffer;
  readonly #log: Log;
  readonly #closing = new AbortController();
  /** Position that the state on the disk covers. */
  savedThrough = 0;
  #saving: Promise<void> | undefined;
  #seenReady = false;
  #seenAfter: number;

  private constructor(journal: Journal, options: StoreOptions, state: State | undefined, epoch: number) {
    this.journal = journal;
    this.#path = join(options.directory, "state");
    this.#key = options.key("state");
    this.#log = options.log;
    this.epoch = epoch;
    this.seen = new Seen(options.idsMax);
    for (const [name, position] of state?.followers ?? []) this.followers.set(name, position);
    this.#seenAfter = state?.seenAfter ?? 0;
    this.forgotten = new Forgotten(state?.forgotten);
    this.recalled = this.#recall();
  }

  /**
   * Opens the journal and brings the marks up to its end; time grows with what was appended since the last save alone.
   */
  static async open(options: StoreOptions): Promise<Store> {
    const state = await readState(options);
    const keys = options.keys("journal");
    const journal = await openJournal({
      directory: join(options.directory, "journal"),
      key: keys.all(),
      sizeBytesMax: options.sizeBytesMax,
      log: options.log,
    });
    try {
      const marks = new Marks();
      marks.restore(state?.marks ?? []);
      const foreignEpoch = await replayMarks(journal, state, marks);
      const now = Math.floor((options.wallMs - EPOCH_ZERO_MS) / 1000);
      const epoch = Math.max(now, (state?.epoch ?? 0) + 1, foreignEpoch + 1);
      const store = new Store(journal, options, state, epoch);
      store.marks.restore(marks.store());
      // Somebody knows more than the journal has (its end was cut off): those positions must not be given out again.
      const known = Math.max(state?.position ?? 0, ...store.followers.values());
      if (known > journal.last) await journal.read(known);
      // Before the first event gets a number of this epoch: the next start must know that it was used.
      await store.save(journal.last);
      keys.follow((next) => journal.rekey(next));
      return store;
    } catch (error) {
      await journal.close();
      throw error;
    }
  }

  async #recall(): Promise<void> {
    const { journal } = this;
    const last = journal.last;
    try {
      for (let after = Math.min(this.#seenAfter, last); after < last && !this.#closing.signal.aborted;) {
        const { records, next } = await journal.read(after, {
          bytesMax: REPLAY_BYTES,
          match: (kind) => kind === KIND.foreign,
        });
        for (const { payload, position } of records) this.note(payload, position);
        if (next <= after) break;
        after = next;
      }
      this.#seenReady = true;
    } catch (error) {
      this.#log.warn(
        { err: asFailure(error).message },
        "the ids of strangers' events could not be read back; one that comes again may be kept twice",
      );
    }
  }

  /** Notes the ids that strangers gave the events of a record. */
  note(payload: Uint8Array, position: number): void {
    for (const block of decodeBlocks(payload, () => false)) {
      for (const { ids } of block.extras.values()) if (ids?.[0]) this.seen.add(ids[0], position);
    }
  }

  /** Saves marks, followers and epoch; `through`: all records up to there are in the marks. One save at a time. */
  async save(through: number): Promise<void> {
    await this.#saving?.catch(() => undefined);
    // With a margin for records that are on the disk and not noted yet.
    if (this.#seenReady) this.#seenAfter = this.seen.size === 0 ? Math.max(0, through - SEEN_MARGIN) : this.seen.after;
    this.forgotten.trimmed(this.journal.first);
    const state: State = {
      version: STATE_VERSION,
      epoch: this.epoch,
      position: through,
      marks: this.marks.store(),
      followers: [...this.followers],
      seenAfter: this.#seenAfter,
      forgotten: this.forgotten.list(),
    };
    this.#saving = replaceFile(this.#path, sealBytes(this.#key, Buffer.from(JSON.stringify(state)), STATE_PURPOSE));
    await this.#saving;
    this.savedThrough = through;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.recalled;
    await this.journal.close();
  }
}

/**
 * Reads the sealed file; a missing or damaged one costs a longer replay, and the positions of followers that have not
 * followed again.
 */
async function readState({ directory, key, log }: StoreOptions): Promise<State | undefined> {
  let sealed: Buffer;
  try {
    sealed = await readFile(join(directory, "state"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    const state = parseJson(openBytes(key("state"), sealed, STATE_PURPOSE)) as State;
    if (state.version === STATE_VERSION) return state;
    log.warn({ version: state.version }, "the bus's state is of another version and is made anew from the journal");
  } catch (error) {
    log.warn(
      { err: asFailure(error).message },
      "the bus's state is damaged and is made anew from the journal; what was trimmed is not recognised when it is sent again",
    );
  }
  return undefined;
}

/**
 * Notes the sequences of all records behind the state; answers the highest epoch of strangers' events where there was
 * no state to tell it.
 */
async function replayMarks(journal: Journal, state: State | undefined, marks: Marks): Promise<number> {
  let foreignEpoch = 0;
  const wanted = (kind: number) => kind === KIND.events || (state === undefined && kind === KIND.foreign);
  for (let after = Math.min(state?.position ?? 0, journal.last); after < journal.last;) {
    const { records, next } = await journal.read(after, { bytesMax: REPLAY_BYTES, match: wanted });
    for (const { kind, payload } of records) {
      const heads = headOfBlocks(payload);
      if (kind === KIND.foreign)
        for (const { publisher } of heads) foreignEpoch = Math.max(foreignEpoch, publisher.epoch);
      else noteBatch(marks, heads);
    }
    if (next <= after) break;
    after = next;
  }
  return foreignEpoch;
}

function noteBatch(marks: Marks, heads: readonly BlockHead[]): void {
  const { publisher, epoch, from, to } = rangeOf(heads);
  marks.of(publisher, epoch).add(from, to);
}
