/** What the cloud has asked this node for in full, and how far that is: kept over restarts, until the cloud has heard the end. */
import type { BackfillProgress, BackfillRequest } from "../../cloud/backfill.api.ts";

/** Progress is told no more often; its end at once. */
const TELL_EVERY_MS = 2_000;
const REASON_LENGTH_MAX = 1_000;

/** A backfill as it is kept; JSON has no integers of 64 bits. */
export interface Backfill {
  readonly id: string;
  readonly devices: readonly string[];
  readonly resources: readonly string[];
  readonly fromNs: string;
  readonly toNs: string;
  /** Up to which of core-data's chunks all is in the outbox. */
  readonly after: number;
  readonly readings: number;
  readonly share: number;
  readonly state: BackfillProgress["state"];
  readonly reason?: string;
}

export interface BookOptions {
  readonly saved: readonly Backfill[] | undefined;
  readonly save: (backfills: readonly Backfill[]) => void;
  readonly clock: { monotonicMs(): number; wallNs(): bigint };
}

export class BackfillBook {
  readonly #o: BookOptions;
  readonly #open = new Map<string, Backfill>();
  /** Those that are over: an answer that was under way meanwhile asks for them again. */
  readonly #over = new Set<string>();
  readonly #untold = new Set<string>();
  #toldMs = Number.NEGATIVE_INFINITY;
  readonly #listeners: (() => void)[] = [];

  constructor(options: BookOptions) {
    this.#o = options;
    for (const backfill of options.saved ?? []) {
      this.#open.set(backfill.id, backfill);
      this.#untold.add(backfill.id);
    }
  }

  /** Calls back after each change. */
  onChanged(listener: () => void): void {
    this.#listeners.push(listener);
  }

  get all(): readonly Backfill[] {
    return [...this.#open.values()];
  }

  /** The one that is worked on. */
  get current(): Backfill | undefined {
    return this.all.find(({ state }) => state === "running");
  }

  /** Takes what the cloud asks for; where that is all that it wants (`isAll`), what else is here is let go of. */
  heard(requests: readonly BackfillRequest[], isAll: boolean): void {
    const wanted = new Set(requests.map(({ id }) => id));
    const gone = isAll ? [...this.#open.keys()].filter((id) => !wanted.has(id)) : [];
    const fresh = requests.filter(({ id }) => !this.#open.has(id) && !this.#over.has(id));
    if (gone.length + fresh.length === 0) return;
    for (const id of gone) this.#forget(id);
    const nowNs = this.#o.clock.wallNs();
    for (const { id, fromNs, toNs, ...names } of fresh) {
      // What comes from now on was not meant: there would be no end.
      const end = toNs < nowNs ? toNs : nowNs;
      const range = { fromNs: String(fromNs), toNs: String(end) };
      this.#open.set(id, { id, ...names, ...range, after: 0, readings: 0, share: 0, state: "running" });
      this.#untold.add(id);
    }
    this.#save();
  }

  /** Notes how far one is, or that it is over; nothing where it was let go of. */
  note(id: string, change: Partial<Pick<Backfill, "after" | "readings" | "share" | "state" | "reason">>): void {
    const known = this.#open.get(id);
    if (!known) return;
    this.#open.set(id, { ...known, ...change });
    this.#untold.add(id);
    this.#save();
  }

  /** What the cloud is to be told now. */
  untold(): BackfillProgress[] {
    const isDue = this.#o.clock.monotonicMs() - this.#toldMs >= TELL_EVERY_MS;
    return this.all
      .filter(({ id, state }) => this.#untold.has(id) && (isDue || state !== "running"))
      .map(({ id, state, readings, share, reason }) => ({
        id,
        state,
        readings,
        share,
        ...(reason === undefined ? {} : { reason: reason.slice(0, REASON_LENGTH_MAX) }),
      }));
  }

  /** The cloud has heard it; what it does not want any more, or has heard the end of, is forgotten. */
  told(progress: readonly BackfillProgress[], unwanted: readonly string[]): void {
    this.#toldMs = this.#o.clock.monotonicMs();
    for (const { id, state, readings, share } of progress) {
      const known = this.#open.get(id);
      if (known?.state === state && known.readings === readings && known.share === share) this.#untold.delete(id);
      if (known && known.state === state && state !== "running") this.#forget(id);
    }
    for (const id of unwanted) this.#forget(id);
    this.#save();
  }

  #forget(id: string): void {
    this.#open.delete(id);
    this.#untold.delete(id);
    this.#over.add(id);
  }

  #save(): void {
    this.#o.save(this.all);
    for (const listener of this.#listeners) listener();
  }
}
