import { createHmac, hkdfSync, timingSafeEqual, type KeyObject } from "node:crypto";
import { readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { close, errnoOf, open, sync, syncDirectory, truncate, writeAt } from "./disk.ts";

/** What was lost, where and why, in words for people. */
export interface Loss {
  reason: string;
  /** Name of the file. */
  segment: string;
  firstPosition: number;
  /** Undefined: nobody can know how many there were. */
  lastPosition?: number;
  bytes: number;
}

export interface Log {
  warn(o: object, msg: string): void;
}

/** Losses kept in memory and in the ledger; later ones are only logged, so that a rotting disk cannot fill the memory. */
const LOSSES_MAX = 1000;
/** Losses of earlier openings that are remembered, the newest: "nothing was lost" must not be said of a journal that lost something. */
const LOSSES_BEFORE_MAX = 100;
export const LEDGER_NAME = "ledger.json";

interface State {
  /** Number of the lowest segment that should be there, and its first position. */
  lowest: number;
  position: number;
  /** Damage that was reported: "segment number:offset". */
  known: string[];
  /** What was found at this opening and at earlier ones, oldest first. */
  losses?: Loss[];
}

/** Remembers what the segments cannot say themselves: which were trimmed, and which damage has been reported already. */
export class Ledger {
  /** Found since it was opened. */
  readonly losses: Loss[] = [];
  /** Found at earlier openings. */
  readonly lossesBefore: Loss[] = [];
  readonly #directory: string;
  readonly #key: Buffer;
  readonly #log: Log | undefined;
  readonly #known = new Set<string>();
  #lowest = 0;
  #position = 0;
  #dirty = false;

  constructor(directory: string, key: KeyObject, log: Log | undefined) {
    this.#directory = directory;
    this.#key = Buffer.from(hkdfSync("sha256", key, "", "holdfast/journal/ledger/1", 32));
    this.#log = log;
  }

  /** Number and first position of the lowest segment that was not trimmed; 0 when unknown. */
  get lowest(): number {
    return this.#lowest;
  }
  get position(): number {
    return this.#position;
  }
  get isDirty(): boolean {
    return this.#dirty;
  }

  /** Whether the damage at this place was reported before. */
  knows(number: number, offset: number): boolean {
    return this.#known.has(`${number}:${offset}`);
  }

  /** Reports a loss, once in the life of the journal. `number` and `offset` name its place; without them it is always new. */
  lose(loss: Loss, number?: number, offset?: number): void {
    if (number !== undefined && offset !== undefined) {
      if (this.knows(number, offset)) return;
      if (this.#known.size < LOSSES_MAX) this.#known.add(`${number}:${offset}`);
      this.#dirty = true;
    }
    if (this.losses.length < LOSSES_MAX) this.losses.push(loss);
    this.#dirty = true;
    this.#log?.warn({ loss }, `the journal lost something: ${loss.reason}`);
  }

  /** Whether this is the first time that something is to be said; `what` is a short name for it. */
  isNews(what: string): boolean {
    if (this.#known.has(what) || this.#known.size >= LOSSES_MAX) return false;
    this.#known.add(what);
    this.#dirty = true;
    return true;
  }

  warn(about: object, message: string): void {
    this.#log?.warn(about, message);
  }

  /** Says that the segments below `number` are gone for good; forgets the damage in them. */
  setLowest(number: number, position: number): void {
    if (number === this.#lowest && position === this.#position) return;
    this.#lowest = number;
    this.#position = position;
    for (const place of this.#known) if (Number.parseInt(place, 10) < number) this.#known.delete(place);
    this.#dirty = true;
  }

  #mac(state: string): Buffer {
    return createHmac("sha256", this.#key).update(state).digest();
  }

  /** Reads the ledger; a missing, damaged or forged one counts as empty: then old damage is reported a second time, no more. */
  async load(): Promise<void> {
    let text: string;
    try {
      text = await readFile(join(this.#directory, LEDGER_NAME), "utf8");
    } catch (caught) {
      if (errnoOf(caught) === "ENOENT") return;
      throw caught;
    }
    const [line = "", mac = ""] = text.split("\n");
    const given = Buffer.from(mac, "hex");
    if (given.byteLength !== 32 || !timingSafeEqual(given, this.#mac(line))) {
      this.warn(
        { file: LEDGER_NAME },
        "the journal's ledger is damaged and is written anew; losses reported before may be reported again",
      );
      this.#dirty = true;
      return;
    }
    const state = JSON.parse(line) as State; // authenticated: only this class wrote it
    this.#lowest = state.lowest;
    this.#position = state.position;
    for (const place of state.known) this.#known.add(place);
    this.lossesBefore.push(...(state.losses ?? []));
  }

  /** Writes the ledger if it changed: the old one or the new one is there after a crash, never half of one. */
  async save(): Promise<void> {
    if (!this.#dirty) return;
    this.#dirty = false;
    const losses = [...this.lossesBefore, ...this.losses].slice(-LOSSES_BEFORE_MAX);
    const state: State = { lowest: this.#lowest, position: this.#position, known: [...this.#known], losses };
    const line = JSON.stringify(state);
    const path = join(this.#directory, LEDGER_NAME);
    try {
      const fd = await open(`${path}.new`, "w");
      try {
        await truncate(fd, 0);
        await writeAt(fd, [Buffer.from(`${line}\n${this.#mac(line).toString("hex")}\n`)], 0);
        await sync(fd);
      } finally {
        await close(fd);
      }
      await rename(`${path}.new`, path);
      await syncDirectory(this.#directory);
    } catch (caught) {
      this.#dirty = true;
      throw caught;
    }
  }
}
