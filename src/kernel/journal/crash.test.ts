import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import {
  closeSync,
  cpSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { damage, directoryFor, entryOf, fill, key, opened, range, readAll, segmentsIn } from "./fixture.ts";
import { openJournal, type Journal } from "./journal.ts";

const ROUNDS = Number(process.env["HOLDFAST_FAULT_ROUNDS"] ?? 5);
const child = join(import.meta.dirname, "crash.child.ts");

interface Report {
  acknowledged: [number, number][];
  trimmed: number;
}

/** Runs the writer for so long after its first acknowledgement, then kill -9. */
async function writeUntilKilled(directory: string, seed: number, forMs: number, report: Report): Promise<void> {
  const writer = spawn(process.execPath, [child, directory, String(seed)], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  let timer: NodeJS.Timeout | undefined;
  writer.stdout.on("data", (chunk: Buffer) => {
    text += chunk.toString();
    timer ??= text.includes("open\n") ? setTimeout(() => writer.kill("SIGKILL"), forMs) : undefined;
  });
  const signal = await new Promise((resolve) => writer.once("close", (_code, how) => resolve(how)));
  assert.equal(signal, "SIGKILL", "the writer ends by nothing else");
  for (const line of text.slice(0, text.lastIndexOf("\n")).split("\n")) {
    const [what, a, b] = line.split(" ");
    if (what === "a") report.acknowledged.push([Number(a), Number(b)]);
    if (what === "t") report.trimmed = Number(a);
  }
}

test(`kill -9 at a random moment, ${ROUNDS} times over: each acknowledged record is there, once and in order`, async (t) => {
  const directory = directoryFor(t);
  const report: Report = { acknowledged: [], trimmed: 0 };
  for (let round = 1; round <= ROUNDS; round++) {
    await writeUntilKilled(directory, round, 5 + ((round * 7919) % 150), report);
    const journal = await openJournal({ directory, key });
    const { positions } = await readAll(journal, report.trimmed);
    const there = new Set(positions);
    for (const [first, last] of report.acknowledged) {
      for (let position = Math.max(first, report.trimmed + 1); position <= last; position++)
        assert.ok(there.has(position), `round ${round}: position ${position} was acknowledged`);
    }
    await journal.close();
  }
  assert.ok(report.acknowledged.length > 0);
});

test("an opening while another process has the journal is refused with JOURNAL_LOCKED and its process id; kill -9 frees it", async (t) => {
  const directory = directoryFor(t);
  const writer = spawn(process.execPath, [child, directory], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => writer.stdout.once("data", resolve));
  await assert.rejects(openJournal({ directory, key }), {
    code: "JOURNAL_LOCKED",
    message: new RegExp(`process ${writer.pid}`),
  });
  const ended = new Promise((resolve) => writer.once("exit", resolve));
  writer.kill("SIGKILL");
  await ended;
  await (await openJournal({ directory, key })).close();
});

test("a group appended together is there as a whole or not at all, wherever the file ends", async (t) => {
  const directory = directoryFor(t);
  const journal = await openJournal({ directory, key });
  await fill(journal, 5, 1);
  const before = journal.sizeBytes;
  await journal.appendMany(range(6, 40).map((n) => entryOf(n)));
  await journal.close();
  const [path = ""] = segmentsIn(directory);
  const whole = readFileSync(path);
  for (let bytes = whole.byteLength - 1; bytes > before; bytes -= 613) {
    writeFileSync(path, whole.subarray(0, bytes));
    const again = await openJournal({ directory, key });
    assert.deepEqual((await readAll(again)).positions, range(1, 5));
    await again.close();
  }
});

test("after a failed sync nothing is accepted until the journal is opened again, and what was acknowledged is there", async (t) => {
  const directory = directoryFor(t);
  const journal = await openJournal({ directory, key });
  await fill(journal, 50);
  // A real failure without a broken disk: the segment's descriptor now leads to a device that takes writes and refuses to sync.
  const path = segmentsIn(directory)[0] ?? "";
  const fd = readdirSync("/proc/self/fd")
    .map(Number)
    .find((one) => {
      try {
        return readlinkSync(`/proc/self/fd/${one}`) === path;
      } catch {
        return false; // the descriptor that listed the directory
      }
    });
  assert.ok(fd);
  closeSync(fd);
  const others: number[] = [];
  for (let got = openSync("/dev/null", "r+"); got !== fd; got = openSync("/dev/null", "r+")) others.push(got);
  for (const other of others) closeSync(other);
  const failed = { code: "JOURNAL_SYNC_FAILED" };
  await Promise.all([
    assert.rejects(journal.append(1, "k", Buffer.alloc(1)), failed),
    assert.rejects(journal.append(1, "k", Buffer.alloc(1)), failed),
  ]);
  await assert.rejects(journal.append(1, "k", Buffer.alloc(1)), failed);
  assert.deepEqual((await readAll(journal)).positions, range(1, 50), "reading goes on");
  await journal.close();
  const again = await opened(t, directory);
  assert.deepEqual((await readAll(again)).positions, range(1, 50));
  assert.equal(await again.append(1, "k", Buffer.alloc(1)), 51);
});

test(
  "a full disk refuses appends with JOURNAL_DISK_FULL, costs nothing that was acknowledged, and passes",
  { skip: process.getuid?.() === 0 ? false : "mounting a small tmpfs needs root" },
  async (t) => {
    const mount = mkdtempSync(join(tmpdir(), "holdfast-journal-full-"));
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", mount]);
    t.after(() => {
      execFileSync("umount", ["-l", mount]);
      rmSync(mount, { recursive: true });
    });
    writeFileSync(join(mount, "filler"), Buffer.alloc(600 * 1024));
    const directory = join(mount, "journal");
    const journal = await openJournal({ directory, key, segmentBytesMax: 64 * 1024 });
    let refused = 0;
    while (refused < 20) {
      try {
        const first = journal.last + 1;
        await journal.appendMany(range(first, first + 19).map((n) => entryOf(n)));
      } catch (caught) {
        assert.equal((caught as { code?: unknown }).code, "JOURNAL_DISK_FULL");
        refused++;
      }
    }
    const { last } = journal;
    assert.ok(last > 1000);
    assert.deepEqual((await readAll(journal)).positions, range(1, last));
    await journal.close();
    const full = await openJournal({ directory, key, segmentBytesMax: 64 * 1024 });
    assert.deepEqual(full.losses, []);
    assert.deepEqual((await readAll(full)).positions, range(1, last), "it opens on the full disk");
    await full.trim(last - 500);
    await fill(full, 100);
    rmSync(join(mount, "filler"));
    await fill(full, 3000);
    assert.deepEqual((await readAll(full, last - 500)).positions, range(last - 499, last + 3100));
    await full.close();
  },
);

const damageArbitrary = fc.record({
  how: fc.constantFrom("flip", "truncate", "zero", "delete", "noise", "cut out", "swap", "ledger"),
  file: fc.nat({ max: 99 }),
  at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  bytes: fc.integer({ min: 1, max: 3000 }),
});

function inflict(
  directory: string,
  { how, file, at, bytes }: { how: string; file: number; at: number; bytes: number },
): void {
  const paths = segmentsIn(directory);
  const path = paths[file % paths.length];
  if (how === "ledger") return writeFileSync(join(directory, "ledger.json"), "x".repeat(bytes));
  if (path === undefined) return;
  if (how === "delete") return rmSync(path);
  if (how === "swap") return damage(path, () => readFileSync(paths[(file + bytes) % paths.length] ?? path));
  damage(path, (all) => {
    const from = Math.floor(all.byteLength * at);
    if (how === "truncate") return all.subarray(0, from);
    if (how === "zero") return all.fill(0, from, Math.min(from + bytes, all.byteLength));
    if (how === "noise") return all.fill(`${at}`, from, Math.min(from + bytes, all.byteLength));
    if (how === "cut out") return Buffer.concat([all.subarray(0, from), all.subarray(from + bytes)]);
    if (all.byteLength > 0) all[from] = (all[from] ?? 0) ^ (1 << (bytes % 8));
    return all;
  });
}

test("whatever is done to the files, the journal opens, never gives a wrong record, and goes on", async (t) => {
  const directory = directoryFor(t);
  const [template, copy] = [join(directory, "template"), join(directory, "copy")];
  const journal = await openJournal({ directory: template, key, segmentBytesMax: 6000 });
  await fill(journal, 400, 7);
  await journal.close();
  const check = async (hurt: Journal): Promise<number[]> => {
    const { positions } = await readAll(hurt);
    const { last, first } = hurt;
    if (positions.length < 400 && last >= 400 && first === 1) assert.ok(hurt.losses.length > 0, "a loss is said");
    const next = entryOf(last + 1);
    assert.equal(await hurt.append(next.kind, next.key, next.payload), last + 1);
    return [...positions, last + 1];
  };
  const checkAgain = async (again: Journal, positions: number[]): Promise<void> => {
    assert.deepEqual(again.losses, [], "and said once");
    assert.deepEqual((await readAll(again)).positions, positions);
    assert.deepEqual(again.losses, []);
  };
  let open: Journal | undefined; // when a check fails, the next and smaller example needs the same directory
  await fc.assert(
    fc.asyncProperty(fc.array(damageArbitrary, { minLength: 1, maxLength: 4 }), async (damages) => {
      await open?.close();
      rmSync(copy, { recursive: true, force: true });
      cpSync(template, copy, { recursive: true });
      for (const one of damages) inflict(copy, one);
      const hurt = (open = await openJournal({ directory: copy, key, segmentBytesMax: 6000 }));
      const positions = await check(hurt);
      await hurt.close();
      const again = (open = await openJournal({ directory: copy, key }));
      await checkAgain(again, positions);
      await again.close();
    }),
    {
      seed: Number(process.env["HOLDFAST_SEED"] ?? 20_260_101),
      numRuns: Number(process.env["HOLDFAST_DAMAGE_RUNS"] ?? 40),
    },
  );
});
