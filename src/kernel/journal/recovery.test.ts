import assert from "node:assert/strict";
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import {
  addBytes,
  cutOff,
  damage,
  directoryFor,
  fill,
  flip,
  key,
  opened,
  range,
  readAll,
  segmentsIn,
} from "./fixture.ts";
import { openJournal, type Journal } from "./journal.ts";

const HEADER_BYTES = 4224;

/** A closed journal with `count` records; answers its directory and the paths of its segments. */
async function made(
  t: TestContext,
  count: number,
  segmentBytesMax = 8192,
): Promise<{ directory: string; paths: string[] }> {
  const directory = directoryFor(t);
  const journal = await openJournal({ directory, key, segmentBytesMax });
  await fill(journal, count);
  await journal.close();
  return { directory, paths: segmentsIn(directory) };
}

/** Opens a second time: what was reported once is remembered and not reported again, and the positions go on. */
async function assertSettled(t: TestContext, directory: string, journal: Journal): Promise<void> {
  const { last } = journal;
  const { positions } = await readAll(journal);
  const told = [...journal.lossesBefore, ...journal.losses];
  await journal.close();
  const again = await opened(t, directory);
  assert.deepEqual(again.losses, []);
  assert.deepEqual(again.lossesBefore, told);
  assert.ok(again.last >= last);
  assert.deepEqual((await readAll(again)).positions, positions);
  assert.deepEqual(again.losses, [], "reading does not report it again either");
  await again.append(1, "after", Buffer.alloc(1));
  assert.equal(again.last, last + 1);
}

test("a torn last record is cut off and said, and its position is not given out again", async (t) => {
  const {
    directory,
    paths: [path = ""],
  } = await made(t, 100, 1 << 20);
  cutOff(path, 7);
  const journal = await openJournal({ directory, key });
  assert.equal(journal.losses.length, 1);
  assert.deepEqual(
    { ...journal.losses[0], reason: "", bytes: 0 },
    { reason: "", segment: "000000000001.seg", firstPosition: 91, lastPosition: 100, bytes: 0 },
  );
  assert.match(journal.losses[0]?.reason ?? "", /torn/);
  assert.deepEqual(await readAll(journal), { positions: range(1, 90), gaps: [{ from: 91, to: 100 }] });
  await assertSettled(t, directory, journal);
});

test("a last segment that is cut down to any length opens with what is whole in it", async (t) => {
  const {
    directory,
    paths: [path = ""],
  } = await made(t, 60, 1 << 20);
  const whole = readFileSync(path);
  for (const bytes of [HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 3, HEADER_BYTES + 700, whole.byteLength - 1]) {
    writeFileSync(path, whole.subarray(0, bytes));
    const journal = await openJournal({ directory, key });
    const { positions } = await readAll(journal);
    assert.deepEqual(positions, range(1, positions.length));
    assert.ok((await journal.append(1, "after", Buffer.alloc(1))) > positions.length);
    await journal.close();
  }
});

test("a zero-filled tail is cut off and said, and no position that may have been in it is given out again", async (t) => {
  const {
    directory,
    paths: [path = ""],
  } = await made(t, 100, 1 << 20);
  damage(path, (bytes) => void bytes.fill(0, bytes.byteLength - 2000));
  const journal = await openJournal({ directory, key });
  assert.match(journal.losses[0]?.reason ?? "", /torn/);
  const { positions } = await readAll(journal);
  assert.deepEqual(positions, range(1, positions.length));
  assert.ok(positions.length >= 70 && positions.length < 100);
  assert.ok(journal.last >= 100);
  await assertSettled(t, directory, journal);
});

test("foreign bytes behind the last record are cut off and nothing else is lost", async (t) => {
  const {
    directory,
    paths: [path = ""],
  } = await made(t, 100, 1 << 20);
  addBytes(path, Buffer.from("somebody was here".repeat(100)));
  const journal = await openJournal({ directory, key });
  assert.deepEqual((await readAll(journal)).positions, range(1, 100));
  await assertSettled(t, directory, journal);
});

test("a flipped bit costs its block alone, wherever it is; the blocks behind it are found again", async (t) => {
  const {
    directory,
    paths: [path = ""],
  } = await made(t, 100, 1 << 20);
  const whole = readFileSync(path);
  for (const offset of [
    HEADER_BYTES,
    HEADER_BYTES + 5,
    HEADER_BYTES + 9,
    HEADER_BYTES + 13,
    HEADER_BYTES + 26,
    HEADER_BYTES + 40,
    HEADER_BYTES + 50,
    HEADER_BYTES + 300,
  ]) {
    writeFileSync(path, whole);
    rmSync(join(directory, "ledger.json"));
    flip(path, offset);
    const journal = await openJournal({ directory, key });
    assert.deepEqual(
      await readAll(journal),
      { positions: range(11, 100), gaps: [{ from: 1, to: 10 }] },
      `at ${offset}`,
    );
    assert.equal(journal.losses.length, 1);
    assert.equal(journal.losses[0]?.lastPosition, 10);
    await journal.close();
    const again = await openJournal({ directory, key });
    assert.deepEqual(again.losses, []);
    await again.close();
  }
});

test("a damaged header of a segment is mended from its second copy", async (t) => {
  const { directory, paths } = await made(t, 300);
  flip(paths[1] ?? "", 40);
  flip(paths[2] ?? "", 4096 + 110);
  const [first, second] = [readFileSync(paths[1] ?? ""), readFileSync(paths[2] ?? "")];
  const journal = await opened(t, directory);
  assert.deepEqual(journal.losses, []);
  assert.deepEqual(await readAll(journal), { positions: range(1, 300), gaps: [] });
  assert.notDeepEqual(readFileSync(paths[1] ?? ""), first);
  assert.notDeepEqual(readFileSync(paths[2] ?? ""), second);
});

for (const [what, change] of [
  ["deleted", (path: string) => rmSync(path)],
  ["robbed of both its headers", (path: string) => damage(path, (bytes) => void bytes.fill(0, 0, HEADER_BYTES))],
  ["emptied", (path: string) => truncateSync(path, 0)],
] as const) {
  test(`a segment in the middle that was ${what} is said with its positions, and the others are kept`, async (t) => {
    const { directory, paths } = await made(t, 500);
    const journal = await openJournal({ directory, key });
    const bounds = [await journal.read(0), await readAll(journal)];
    assert.equal(bounds.length, 2);
    await journal.close();
    change(paths[2] ?? "");
    const after = await openJournal({ directory, key });
    const { positions, gaps } = await readAll(after);
    assert.equal(after.losses.length, 1);
    assert.equal(after.losses[0]?.segment, "000000000003.seg");
    assert.equal(gaps.length, 1);
    assert.deepEqual(gaps[0], { from: after.losses[0]?.firstPosition, to: after.losses[0]?.lastPosition });
    assert.equal(positions.length + (gaps[0] ? gaps[0].to - gaps[0].from + 1 : 0), 500);
    await after.trim(500);
    assert.ok(segmentsIn(directory).length <= 2, "the damaged file goes with the rest");
    assert.equal(await after.append(1, "after", Buffer.alloc(1)), 501);
    await after.close();
  });

  test(`a last segment that was ${what} is said, the others are kept, and no position is given out twice`, async (t) => {
    const { directory, paths } = await made(t, 500);
    change(paths.at(-1) ?? "");
    const journal = await openJournal({ directory, key });
    assert.equal(journal.losses.length, 1);
    const { positions } = await readAll(journal);
    assert.deepEqual(positions, range(1, positions.length));
    assert.ok(positions.length > 400);
    assert.ok(journal.last >= 500);
    await assertSettled(t, directory, journal);
  });

  test(`a first segment that was ${what} is said, and the others are kept`, async (t) => {
    const { directory, paths } = await made(t, 500);
    change(paths[0] ?? "");
    const journal = await openJournal({ directory, key });
    assert.equal(journal.losses.length, 1);
    assert.equal(journal.losses[0]?.firstPosition, 1);
    const { positions } = await readAll(journal);
    assert.deepEqual(positions, range((journal.losses[0]?.lastPosition ?? 0) + 1, 500));
    await assertSettled(t, directory, journal);
  });
}

test("all segments deleted is said, and positions go on behind all that can have been given out", async (t) => {
  const { directory, paths } = await made(t, 500);
  for (const path of paths) rmSync(path);
  const journal = await openJournal({ directory, key });
  assert.match(journal.losses[0]?.reason ?? "", /missing/);
  assert.ok(journal.last >= 500);
  await assertSettled(t, directory, journal);
});

test("the end of a finished segment that was cut off is said at once, by the next segment's header", async (t) => {
  const { directory, paths } = await made(t, 500);
  cutOff(paths[1] ?? "", 700);
  const journal = await openJournal({ directory, key });
  assert.equal(journal.losses.length, 1);
  assert.equal(journal.losses[0]?.segment, "000000000002.seg");
  const { gaps } = await readAll(journal);
  assert.deepEqual(gaps, [{ from: journal.losses[0]?.firstPosition, to: journal.losses[0]?.lastPosition }]);
  await assertSettled(t, directory, journal);
});

test("blocks that change places, and a segment put in another's place, are not believed", async (t) => {
  const { directory, paths } = await made(t, 500);
  const other = await made(t, 500);
  damage(paths[1] ?? "", () => readFileSync(other.paths[1] ?? "")); // same key, another journal: its salt gives other keys
  damage(paths[2] ?? "", () => readFileSync(paths[3] ?? ""));
  const journal = await openJournal({ directory, key });
  const { positions } = await readAll(journal); // checks each record against its position
  assert.ok(positions.length >= 300 && positions.length < 500);
  await journal.close();
});

test("foreign files are left alone and said once", async (t) => {
  const { directory } = await made(t, 100);
  const said: string[] = [];
  const log = { warn: (about: object, message: string) => void said.push(`${message} ${JSON.stringify(about)}`) };
  writeFileSync(join(directory, "notes.txt"), "mine");
  writeFileSync(join(directory, "000000009999.seg"), "not a segment at all");
  mkdirSync(join(directory, "000000007777.seg"));
  for (let round = 0; round < 2; round++) {
    const journal = await openJournal({ directory, key, log });
    assert.deepEqual((await readAll(journal)).positions, range(1, 100));
    await journal.close();
    assert.equal(said.length, 3, said.join("\n"));
  }
  assert.equal(readFileSync(join(directory, "notes.txt"), "utf8"), "mine");
});

test("a damaged ledger or lock file costs nothing", async (t) => {
  const { directory } = await made(t, 300);
  writeFileSync(join(directory, "ledger.json"), '{"lowest":7}\nabc');
  writeFileSync(join(directory, "lock"), "x".repeat(5000));
  const journal = await openJournal({ directory, key });
  await assert.rejects(openJournal({ directory, key }), { code: "JOURNAL_LOCKED" });
  assert.deepEqual(journal.losses, []);
  assert.deepEqual((await readAll(journal)).positions, range(1, 300));
  await assertSettled(t, directory, journal);
});

test("a follower that has read further than the journal reaches keeps those positions from being given out again", async (t) => {
  const {
    directory,
    paths: [path = ""],
  } = await made(t, 100, 1 << 20);
  const before = statSync(path).size;
  const journal = await openJournal({ directory, key });
  await fill(journal, 10);
  await journal.close();
  truncateSync(path, before); // exactly at the end of a block: nothing on the disk tells of it
  const again = await opened(t, directory);
  assert.equal(again.last, 100);
  assert.deepEqual(await again.read(110), { records: [], next: 110 });
  assert.equal(again.losses[0]?.firstPosition, 101);
  assert.equal(await again.append(1, "after", Buffer.alloc(1)), 111);
  assert.deepEqual((await again.read(105)).gap, { from: 106, to: 110 });
  assert.deepEqual(await again.read(Number.MAX_SAFE_INTEGER), { records: [], next: 111 }, "nonsense moves nothing");
});

test("a segment that is deleted while the journal is open is said, and appends are safe in a new one", async (t) => {
  const directory = directoryFor(t);
  const journal = await openJournal({ directory, key });
  await fill(journal, 100_000 / 100, 1);
  rmSync(segmentsIn(directory)[0] ?? "");
  const closed = await journal.read(0).then((result) => result.gap);
  if (closed) assert.equal(closed.to, 1000);
  const position = await journal.append(1, "after", Buffer.alloc(10));
  await journal.close();
  const again = await opened(t, directory);
  assert.ok(again.last >= position);
});

test("opening leaves no descriptor behind, however often", async (t) => {
  const { directory } = await made(t, 300);
  const count = (): number => readdirSync("/proc/self/fd").length;
  closeSync(openSync(directory, "r"));
  const before = count();
  for (let i = 0; i < 5; i++) {
    const journal = await openJournal({ directory, key });
    await readAll(journal);
    await journal.close();
  }
  await new Promise((resolve) => setTimeout(resolve, 20)); // descriptors of readers are closed behind close()
  assert.ok(count() <= before + 1);
});
