/** What the journal's tests share: a place to write, records whose content follows from their position, and ways to do damage. */
import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { openJournal, type Journal, type JournalOptions, type JournalRecord } from "./journal.ts";

export const key = Buffer.alloc(32, 0x2a);

export function directoryFor(t: { after(work: () => void): void }): string {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-journal-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Opens a journal and closes it after the test. */
export async function opened(
  t: TestContext,
  directory: string,
  options: Partial<JournalOptions> = {},
): Promise<Journal> {
  const journal = await openJournal({ directory, key, ...options });
  t.after(() => journal.close());
  return journal;
}

/** The record that belongs to the n-th append: everything in it follows from n. */
export const entryOf = (n: number, bytes = 40 + (n % 90)): { kind: number; key: string; payload: Buffer } => ({
  kind: n % 256,
  key: `topic/${n % 7}`,
  payload: Buffer.from(`record ${n} `.padEnd(bytes, String.fromCharCode(97 + (n % 26)))),
});

/** Checks that a record is what was appended as its position's. */
export function assertRecord(record: JournalRecord, n = record.position): void {
  const wanted = entryOf(n);
  assert.equal(record.kind, wanted.kind);
  assert.equal(record.key, wanted.key);
  assert.deepEqual(Buffer.from(record.payload), wanted.payload);
}

/** Appends the records of positions `journal.last + 1` and following, in groups, so that there are some blocks. */
export async function fill(journal: Journal, count: number, group = 10): Promise<void> {
  for (let done = 0; done < count; done += group) {
    const first = journal.last + 1;
    await journal.appendMany(Array.from({ length: Math.min(group, count - done) }, (_, i) => entryOf(first + i)));
  }
}

/** Reads everything after a position, checks each record and the order, and answers positions and gaps. */
export async function readAll(
  journal: Journal,
  after = 0,
): Promise<{ positions: number[]; gaps: { from: number; to: number }[] }> {
  const positions: number[] = [];
  const gaps: { from: number; to: number }[] = [];
  let at = after;
  while (at < journal.last) {
    const { records, next, gap } = await journal.read(at, { recordsMax: 97 });
    let wanted = at + 1;
    if (gap) {
      assert.equal(gap.from, wanted, "a gap begins where the reading did");
      gaps.push(gap);
      wanted = gap.to + 1;
    }
    for (const record of records) {
      assert.equal(record.position, wanted++, "no position is passed over in silence");
      assertRecord(record);
      positions.push(record.position);
    }
    assert.equal(next, wanted - 1);
    assert.ok(next > at, "reading gets ahead");
    at = next;
  }
  return { positions, gaps };
}

export const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

export const segmentsIn = (directory: string): string[] =>
  readdirSync(directory)
    .filter((name) => name.endsWith(".seg"))
    .sort()
    .map((name) => join(directory, name));

/** Rewrites a file with whatever `change` makes of its bytes. */
export const damage = (path: string, change: (bytes: Buffer) => Buffer | void): void => {
  const bytes = readFileSync(path);
  writeFileSync(path, change(bytes) ?? bytes);
};

export const flip = (path: string, offset: number): void =>
  damage(path, (bytes) => void (bytes[offset] = (bytes[offset] ?? 0) ^ 0x10));
export const cutOff = (path: string, bytes: number): void =>
  damage(path, (all) => all.subarray(0, all.byteLength - bytes));
export const addBytes = (path: string, bytes: Buffer): void => appendFileSync(path, bytes);
