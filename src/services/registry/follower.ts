/**
 * Keeps a table fed from the registry's change stream, for as long as a process lives and however often the registry
 * does not.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Call, makeCall } from "../../kernel/call.ts";
import { asFailure, type Failure } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import { type Change, REGISTRY_REVISION_GONE, type Registry, UNCONFIRMED_KEPT_MS } from "./api.ts";
import type { Table } from "./table.ts";

/** A stream that brings nothing in this time is given up: the registry takes the connection but is not there. */
const FIRST_CHANGE_MS = 10_000;
/**
 * Pauses between tries grow from the first to the most; each is drawn between a half and the whole, so that not all
 * come at once.
 */
const RETRY_MS = 100;
const RETRY_MS_MAX = 800;
/** A registry that is full asks for seconds; half of each to all of it is waited. */
const FULL_MS = 1_000;
/** However large the herd: calls go on meanwhile, but what is new is not known. */
const SPREAD_MS_MAX = 2_000;
/**
 * A connection is cut when the certificate it was opened with ends (an hour after it was issued), which would be a death to
 * the registry: the stream moves to a younger connection well before.
 */
const REOPEN_MS = 600_000;

export interface FollowOptions {
  readonly registry: Registry;
  /** Whose calls these are, for the log; over a wire the certificate says it. */
  readonly caller: string;
  readonly log: Log;
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Fed with the changes; made where none is given. */
  readonly table?: Table;
  /** The stream moves to a new connection after half of this to all of it; 10 minutes unless told. */
  readonly reopenMs?: number;
  /** Called after each change is in the table. */
  onChange?(change: Change): void;
}

/** A stream that was opened; its first item is already asked for. */
interface Opened {
  readonly call: ReturnType<typeof makeCall>;
  readonly items: AsyncGenerator<Change>;
  readonly first: Promise<IteratorResult<Change>>;
}

/** Opens a stream of changes again and again, and feeds the table. */
export class Follower {
  readonly #options: FollowOptions & { readonly table: Table };
  readonly #open: (after: number | undefined, call: Call) => AsyncIterable<Change>;
  readonly #ended: () => void;
  #present: Opened | undefined;
  /** Takes over when the present stream ends. */
  #next: Opened | undefined;
  /** Over how long the registry wants those spread that come back together. */
  #spreadMs = 0;

  /**
   * `open` gets the revision that the stream may go on after; `ended` is called at the end of each stream that was read.
   */
  constructor(
    options: FollowOptions & { readonly table: Table },
    open: (after: number | undefined, call: Call) => AsyncIterable<Change>,
    ended: () => void = () => {},
  ) {
    this.#options = options;
    this.#open = open;
    this.#ended = ended;
  }

  /** Cuts the present stream; the next is opened after a pause. */
  cut(): void {
    this.#present?.call.end(true);
  }

  async run(): Promise<void> {
    const { signal, log } = this.#options;
    const cut = () => {
      this.cut();
      this.#next?.call.end(true);
    };
    signal.addEventListener("abort", cut, { once: true });
    let failures = 0;
    while (!signal.aborted) {
      const stream = this.#next ?? this.#opened();
      this.#next = undefined;
      const { changes, failure } = await this.#read(stream);
      if (signal.aborted) break;
      if (changes > 0) failures = 0;
      if (this.#next) continue;
      if (failure?.code === REGISTRY_REVISION_GONE.code) {
        this.#options.table.revision = 0;
        continue;
      }
      // Once an outage: the tries after it would say the same for hours.
      if (failures === 0)
        log.warn(
          { code: failure?.code },
          `the registry went away, the last known table serves: ${failure?.message ?? "its stream ended"}`,
        );
      const pauseMs = this.#pauseMs(failures++, failure);
      // Only the abort rejects; the loop's condition sees it.
      await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
    }
    signal.removeEventListener("abort", cut);
  }

  /** Longer from failure to failure, as long as a full registry says, and with chance over the spread that it asked for. */
  #pauseMs(failures: number, failure: Failure | undefined): number {
    const grown = Math.max(jittered(Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** failures)), Math.random() * this.#spreadMs);
    return Math.max(grown, (failure?.retryAfterS ?? 0) * jittered(FULL_MS));
  }

  #opened(): Opened {
    const call = makeCall({ caller: this.#options.caller, timeoutMs: Number.POSITIVE_INFINITY });
    const open = this.#open;
    const after = this.#options.table.revision;
    const items = (async function* () {
      yield* open(after === 0 ? undefined : after, call);
    })();
    const patience = setTimeout(() => call.end(true), FIRST_CHANGE_MS);
    const first = items.next().finally(() => clearTimeout(patience));
    first.catch(() => undefined); // Whoever reads the stream meets the failure; until then it is nobody's.
    return { call, items, first };
  }

  /** Reads a stream to its end. */
  async #read(stream: Opened): Promise<{ changes: number; failure?: Failure }> {
    const { table, reopenMs = REOPEN_MS } = this.#options;
    this.#present = stream;
    table.beginStream();
    const reopening = setInterval(() => this.#reopen(stream), jittered(reopenMs)).unref();
    let settling: NodeJS.Timeout | undefined;
    let changes = 0;
    try {
      for (let item = await stream.first; !item.done && !stream.call.signal.aborted; item = await stream.items.next()) {
        if (changes++ === 0) settling = setTimeout(() => table.settle(), UNCONFIRMED_KEPT_MS).unref();
        this.#take(item.value);
      }
      return { changes };
    } catch (error) {
      return { changes, failure: asFailure(error) };
    } finally {
      clearInterval(reopening);
      clearTimeout(settling);
      stream.call.end(true);
      await stream.items.return(undefined);
      this.#ended();
    }
  }

  /**
   * Opens the next stream while the present one flows, and only when it brings something ends that one: nobody is down
   * meanwhile.
   */
  #reopen(present: Opened): void {
    if (this.#next) return;
    const next = this.#opened();
    this.#next = next;
    const give = () => {
      if (this.#next === next) this.#next = undefined;
    };
    next.first.then((item) => (item.done ? give() : present.call.end(true)), give);
  }

  #take(change: Change): void {
    const { table, log } = this.#options;
    table.apply(change);
    this.#spreadMs = Math.min(SPREAD_MS_MAX, change.spreadMs ?? this.#spreadMs);
    try {
      this.#options.onChange?.(change);
    } catch (error) {
      log.error({ err: error }, "what was to happen on a change of the registry failed");
    }
  }
}

const jittered = (ms: number): number => ms * (0.5 + Math.random() / 2);
