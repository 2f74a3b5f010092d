import assert from "node:assert/strict";
import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import {
  assertRecord,
  damage,
  directoryFor,
  entryOf,
  fill,
  key,
  opened,
  range,
  readAll,
  segmentsIn,
} from "./fixture.ts";
import { openJournal } from "./journal.ts";
import { segmentName } from "./segment.ts";

const code = (name: string): { code: string } => ({ code: name });

test("records come back in order, with position, kind, key and payload", async (t) => {
  const journal = await opened(t, directoryFor(t));
  assert.equal(journal.last, journal.first - 1, "an empty journal");
  const positions = await Promise.all(
    range(1, 100).map((n) => journal.append(entryOf(n).kind, entryOf(n).key, entryOf(n).payload)),
  );
  assert.deepEqual(positions, range(1, 100));
  assert.deepEqual((await readAll(journal)).positions, range(1, 100));
  assert.deepEqual((await readAll(journal, 42)).positions, range(43, 100));
  assert.deepEqual(await journal.read(100), { records: [], next: 100 });
});

test("keys and payloads of any content and length up to the limits come back unchanged", async (t) => {
  const directory = directoryFor(t);
  let journal = await openJournal({ directory, key });
  const entries = ["", "é☃𝄞", "x".repeat(1024), "__proto__", "\0"].flatMap((name) =>
    [0, 1, 127, 128, 65_536, 70_000].map((bytes) => ({
      kind: bytes % 256,
      key: name,
      payload: Buffer.alloc(bytes, 0xd7),
    })),
  );
  await journal.appendMany(entries);
  await journal.append(255, "largest", Buffer.alloc(4 * 1024 * 1024, 1));
  for (let round = 0; round < 2; round++) {
    const { records } = await journal.read(0, { bytesMax: 64 * 1024 * 1024 });
    assert.equal(records.length, entries.length + 1);
    for (const [i, entry] of entries.entries())
      assert.deepEqual(
        { ...records[i], payload: Buffer.from(records[i]?.payload ?? []) },
        { ...entry, position: i + 1 },
      );
    assert.equal(records.at(-1)?.payload.byteLength, 4 * 1024 * 1024);
    await journal.close();
    journal = await openJournal({ directory, key });
  }
  await journal.close();
});

test("what is too large or no record is refused with a code, and nothing of its group is kept", async (t) => {
  const journal = await opened(t, directoryFor(t));
  await assert.rejects(journal.append(1, "k", Buffer.alloc(4 * 1024 * 1024 + 1)), code("JOURNAL_RECORD_TOO_LARGE"));
  await assert.rejects(journal.append(1, "☃".repeat(342), Buffer.alloc(1)), code("JOURNAL_RECORD_TOO_LARGE"));
  await assert.rejects(journal.append(256, "k", Buffer.alloc(1)), code("INPUT_INVALID"));
  await assert.rejects(journal.append(1, "\ud800", Buffer.alloc(1)), code("INPUT_INVALID"));
  await assert.rejects(journal.appendMany([entryOf(1), { ...entryOf(2), kind: -1 }]), code("INPUT_INVALID"));
  await assert.rejects(journal.read(-1), code("INPUT_INVALID"));
  await assert.rejects(journal.read(1.5), code("INPUT_INVALID"));
  assert.equal(journal.last, 0);
  assert.deepEqual(await journal.appendMany([]), { first: 1, last: 0 });
});

test("appends that arrive together, or while a sync runs, share one sync", async (t) => {
  const journal = await opened(t, directoryFor(t));
  await Promise.all(range(1, 2000).map((n) => journal.append(1, "k", entryOf(n).payload)));
  assert.equal(journal.syncs, 1);
  const first = journal.append(1, "k", Buffer.alloc(10));
  await new Promise((resolve) => setImmediate(resolve)); // the write of the first is on its way
  await Promise.all([first, ...range(1, 500).map(() => journal.append(1, "k", Buffer.alloc(10)))]);
  assert.equal(journal.syncs, 3);
});

test("an append is copied at once: its buffer may be used again while it waits for the disk", async (t) => {
  const journal = await opened(t, directoryFor(t));
  const payload = Buffer.from("before");
  const appended = journal.append(1, "k", payload);
  payload.write("AFTER!");
  await appended;
  assert.equal(Buffer.from((await journal.read(0)).records[0]?.payload ?? []).toString(), "before");
});

test("positions go on after a restart, and after everything was trimmed and restarted", async (t) => {
  const directory = directoryFor(t);
  let journal = await openJournal({ directory, key, segmentBytesMax: 8192 });
  await fill(journal, 500);
  await journal.close();
  journal = await openJournal({ directory, key, segmentBytesMax: 8192 });
  assert.equal(journal.last, 500);
  assert.deepEqual((await readAll(journal)).positions, range(1, 500));
  await journal.trim(500);
  assert.equal(segmentsIn(directory).length, 1);
  await journal.close();
  journal = await openJournal({ directory, key, segmentBytesMax: 8192 });
  assert.equal(journal.last, 500);
  assert.equal(await journal.append(1, "k", Buffer.alloc(1)), 501);
  assert.deepEqual(journal.losses, []);
  await journal.close();
});

test("trimming deletes whole segments, gives their space back, and reads as a gap", async (t) => {
  const directory = directoryFor(t);
  const journal = await opened(t, directory, { segmentBytesMax: 8192 });
  await fill(journal, 1000);
  const [files, size] = [segmentsIn(directory).length, journal.sizeBytes];
  assert.equal(
    size,
    segmentsIn(directory).reduce((sum, path) => sum + statSync(path).size, 0),
  );
  await journal.trim(500);
  assert.ok(segmentsIn(directory).length < files && journal.sizeBytes < size * 0.6);
  assert.ok(journal.first > 400 && journal.first <= 501, "nothing behind the given position went");
  const { records, gap } = await journal.read(0);
  assert.deepEqual(gap, { from: 1, to: journal.first - 1 });
  assert.equal(records[0]?.position, journal.first);
  assert.deepEqual((await readAll(journal, 500)).positions, range(501, 1000));
  await journal.trim(1000);
  assert.ok(journal.sizeBytes < 10_000);
  assert.equal(journal.first, 1001);
  assert.equal(journal.last, 1000);
  assert.deepEqual(await journal.read(900), { records: [], next: 1000, gap: { from: 901, to: 1000 } });
});

test("a journal that is never empty gives back the file that it writes to, once most of it is done with", async (t) => {
  const journal = await opened(t, directoryFor(t));
  await fill(journal, 1000);
  const size = journal.sizeBytes;
  await journal.trim(700, 4096);
  assert.equal(journal.sizeBytes, size, "a third of it is still needed");
  await journal.trim(990, 4096);
  await fill(journal, 10);
  assert.deepEqual((await readAll(journal, 990)).positions, range(991, 1010), "nothing that is needed went");
  await journal.trim(1005, 4096);
  assert.equal(journal.first, 1001);
  assert.ok(journal.sizeBytes < size / 4, `${journal.sizeBytes} of ${size} bytes`);
  await journal.trim(1005);
  assert.deepEqual((await readAll(journal, 1005)).positions, range(1006, 1010));
});

test("a reader whose segment is trimmed under its feet goes on behind it", async (t) => {
  const journal = await opened(t, directoryFor(t), { segmentBytesMax: 8192 });
  await fill(journal, 1000);
  const [read] = await Promise.all([journal.read(0, { recordsMax: 900 }), journal.trim(600)]);
  for (const record of read.records) assertRecord(record);
  assert.equal((await readAll(journal, read.next)).positions.at(-1), 1000);
});

test("read keeps to its limits, and next goes on although nothing matched", async (t) => {
  const journal = await opened(t, directoryFor(t));
  await fill(journal, 300);
  const few = await journal.read(10, { recordsMax: 3 });
  assert.deepEqual(
    few.records.map((record) => record.position),
    [11, 12, 13],
  );
  assert.equal(few.next, 13);
  const small = await journal.read(0, { bytesMax: 1 });
  assert.equal(small.records.length, 1);
  const nothing = await journal.read(0, { match: () => false });
  assert.deepEqual(nothing, { records: [], next: 300 });
  const some = await journal.read(0, { match: (kind, name) => kind < 100 && name === "topic/3" });
  assert.deepEqual(
    some.records.map((record) => record.position),
    range(1, 300).filter((n) => n % 256 < 100 && n % 7 === 3),
  );
  let asked = 0;
  await journal.read(0, { match: () => (asked++, true) });
  assert.ok(asked <= 300);
});

test("wait resolves with the append it waits for, ends with its signal, and with the journal", async (t) => {
  const journal = await opened(t, directoryFor(t));
  const waited = journal.wait(1);
  await journal.append(1, "k", Buffer.alloc(1));
  const [second] = await Promise.all([journal.append(1, "k", Buffer.alloc(1)), waited]);
  assert.equal(second, 2);
  await journal.wait(1);
  const stop = new AbortController();
  const aborted = journal.wait(2, stop.signal);
  stop.abort(new Error("enough"));
  await assert.rejects(aborted, /enough/);
  const left = journal.wait(2);
  await Promise.all([assert.rejects(left, code("JOURNAL_CLOSED")), journal.close()]);
  await assert.rejects(journal.append(1, "k", Buffer.alloc(1)), code("JOURNAL_CLOSED"));
  await assert.rejects(journal.read(0), code("JOURNAL_CLOSED"));
});

test("closing waits for what was appended", async (t) => {
  const directory = directoryFor(t);
  const journal = await openJournal({ directory, key });
  const appended = range(1, 50).map((n) => journal.append(entryOf(n).kind, entryOf(n).key, entryOf(n).payload));
  await journal.close();
  assert.deepEqual(await Promise.all(appended), range(1, 50));
  assert.deepEqual((await readAll(await opened(t, directory))).positions, range(1, 50));
});

test("a full journal refuses with JOURNAL_FULL, drops nothing, and takes more after trimming", async (t) => {
  const directory = directoryFor(t);
  const journal = await opened(t, directory, { sizeBytesMax: 128 * 1024 });
  let refused = 0;
  const results = await Promise.allSettled(
    range(1, 3000).map((n) => journal.append(entryOf(n).kind, entryOf(n).key, entryOf(n).payload)),
  );
  for (const result of results) {
    if (result.status === "fulfilled") continue;
    refused++;
    assert.equal((result.reason as { code?: unknown }).code, "JOURNAL_FULL");
  }
  assert.ok(refused > 1000 && journal.last > 500);
  assert.deepEqual((await readAll(journal)).positions, range(1, journal.last));
  const { last } = journal;
  await journal.trim(last);
  assert.equal(await journal.append(1, "k", Buffer.alloc(100)), last + 1);
});

test("more appends than the queue holds wait their turn, in order", async (t) => {
  const journal = await opened(t, directoryFor(t), { queueBytesMax: 10_000 });
  assert.deepEqual(
    await Promise.all(range(1, 3000).map((n) => journal.append(entryOf(n).kind, entryOf(n).key, entryOf(n).payload))),
    range(1, 3000),
  );
  assert.ok(journal.syncs > 10);
  assert.deepEqual((await readAll(journal)).positions, range(1, 3000));
});

test("nothing on the disk tells a key or a payload, and nobody else may read it", async (t) => {
  const directory = join(directoryFor(t), "state", "journal");
  const journal = await opened(t, directory, { segmentBytesMax: 8192 });
  for (let i = 0; i < 50; i++) await journal.append(1, "canary-topic", Buffer.from("canary-payload".repeat(50)));
  await journal.trim(10);
  assert.equal(statSync(directory).mode & 0o777, 0o700);
  for (const name of readdirSync(directory)) {
    assert.equal(readFileSync(join(directory, name)).includes("canary"), false, name);
    assert.equal(statSync(join(directory, name)).mode & 0o077, 0, name);
  }
});

test("a second opening is refused with JOURNAL_LOCKED until the first is closed", async (t) => {
  const directory = directoryFor(t);
  const journal = await openJournal({ directory, key });
  await assert.rejects(openJournal({ directory, key }), code("JOURNAL_LOCKED"));
  await journal.close();
  await (await openJournal({ directory, key })).close();
});

test("another key is refused with JOURNAL_KEY_WRONG, and nothing changes", async (t) => {
  const directory = directoryFor(t);
  let journal = await openJournal({ directory, key });
  await fill(journal, 100);
  await journal.close();
  await assert.rejects(openJournal({ directory, key: Buffer.alloc(32, 1) }), code("JOURNAL_KEY_WRONG"));
  await assert.rejects(openJournal({ directory, key: Buffer.alloc(16) }), code("INPUT_INVALID"));
  journal = await openJournal({ directory, key });
  assert.deepEqual((await readAll(journal)).positions, range(1, 100));
  assert.deepEqual(journal.losses, []);
  await journal.close();
});

test("a journal of a newer version is refused with JOURNAL_VERSION_NEWER, and nothing changes", async (t) => {
  const directory = directoryFor(t);
  let journal = await openJournal({ directory, key });
  await fill(journal, 10);
  await journal.close();
  const setVersion = (version: number): void =>
    damage(segmentsIn(directory)[0] ?? "", (bytes) => {
      for (const at of [0, 4096]) {
        bytes.writeUInt16LE(version, at + 8);
        bytes.writeUInt32LE(crc32(bytes.subarray(at, at + 124)), at + 124);
      }
    });
  setVersion(2);
  await assert.rejects(openJournal({ directory, key }), code("JOURNAL_VERSION_NEWER"));
  setVersion(1);
  journal = await openJournal({ directory, key });
  assert.deepEqual((await readAll(journal)).positions, range(1, 10));
  await journal.close();
});

test("a directory that cannot be used is named", async () => {
  await assert.rejects(openJournal({ directory: "/proc/none/journal", key }), {
    code: "JOURNAL_DIRECTORY_UNUSABLE",
    message: /\/proc\/none\/journal/,
  });
});

test("a new key is taken up while appends come in, and what the old ones wrote is read with them", async (t) => {
  const directory = directoryFor(t);
  const keys = range(0, 2).map((id) => ({ id, key: Buffer.alloc(32, 0x30 + id) }));
  let journal = await openJournal({ directory, key: keys.slice(0, 1) });
  const ending = new AbortController();
  const appends = (async () => {
    while (!ending.signal.aborted) await fill(journal, 50);
  })();
  for (const next of keys.slice(1)) {
    const before = journal.last;
    while (journal.last < before + 500) await journal.wait(journal.last);
    await journal.rekey(next);
  }
  const rolled = journal.last;
  while (journal.last < rolled + 500) await journal.wait(journal.last);
  ending.abort();
  await appends;
  assert.deepEqual((await readAll(journal)).positions, range(1, journal.last));
  const last = journal.last;
  await journal.close();
  assert.deepEqual(
    segmentsIn(directory).map((_, at) => readFileSync(join(directory, segmentName(at + 1)))[10]),
    [0, 1, 2],
    "each segment names its key",
  );
  journal = await openJournal({ directory, key: keys });
  assert.deepEqual((await readAll(journal)).positions, range(1, last));
  await journal.close();
  await assert.rejects(openJournal({ directory, key: Buffer.alloc(32, 0x99) }), code("JOURNAL_KEY_WRONG"));
  // Without the key of the middle one its positions are a gap, and the others are there.
  journal = await openJournal({ directory, key: keys.filter(({ id }) => id !== 1) });
  const { positions, gaps } = await readAll(journal);
  assert.equal(gaps.length, 1);
  assert.ok(positions.includes(1) && positions.includes(last));
  await journal.close();
});
