/** Rotation of a journal's key while it takes all that it can: how long appends stand still. */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type Journal, openJournal } from "../../src/kernel/journal/journal.ts";
import { info, type Row, rowOf } from "../table.ts";

const ROTATIONS = 40;
const BETWEEN_MS = 100;
const REACH_MS = 20;
const OUTSTANDING = 200;
const RECORD_BYTES = 200;
const KEPT_RECORDS = 50_000;

export async function measureRotation(): Promise<Row[]> {
  const directory = mkdtempSync(path.join(tmpdir(), "bench-rotation-"));
  const journal = await openJournal({ directory, key: [{ id: 0, key: randomBytes(32) }] });
  const load = new Load(journal);
  try {
    load.start();
    await pause(BETWEEN_MS);
    load.longestMs = 0;
    await pause(ROTATIONS * BETWEEN_MS);
    const usualMs = load.longestMs;
    const pauses: number[] = [];
    load.longestMs = 0;
    for (let id = 1; id <= ROTATIONS; id++) {
      pauses.push(await journal.rekey({ id, key: randomBytes(32) }));
      await pause(BETWEEN_MS);
      await journal.trim(Math.max(0, journal.last - KEPT_RECORDS));
    }
    pauses.sort((a, b) => a - b);
    return [
      rowOf("rotation of a data key under full ingest: longest pause", pauses.at(-1) ?? Number.NaN, "ms", REACH_MS),
      info("  median pause", pauses[ROTATIONS >> 1] ?? Number.NaN, "ms"),
      info("  longest time without an acknowledgement, with rotations", load.longestMs, "ms"),
      info("  the same without rotations", usualMs, "ms"),
      info("  records acknowledged", load.count, ""),
    ];
  } finally {
    await load.stop();
    await journal.close();
    rmSync(directory, { recursive: true });
  }
}

/** Appends without an end, so many at once. */
class Load {
  readonly #journal: Journal;
  readonly #appends: Promise<void>[] = [];
  #isStopping = false;
  #lastMs = performance.now();
  longestMs = 0;
  count = 0;

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  start(): void {
    for (let i = 0; i < OUTSTANDING; i++) this.#appends.push(this.#append());
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.all(this.#appends);
  }

  async #append(): Promise<void> {
    const payload = randomBytes(RECORD_BYTES);
    while (!this.#isStopping) {
      await this.#journal.append(1, "bench", payload);
      const nowMs = performance.now();
      this.longestMs = Math.max(this.longestMs, nowMs - this.#lastMs);
      this.#lastMs = nowMs;
      this.count++;
    }
  }
}
