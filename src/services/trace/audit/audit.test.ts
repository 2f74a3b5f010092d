import assert from "node:assert/strict";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { callOf, edgeHouse, eventually, SetClock, temporary } from "../../../../test/houses/edge.ts";
import { seeded } from "../../../../test/houses/seeded.ts";
import { Auditor } from "../../../kernel/audit.ts";
import { systemClock } from "../../../kernel/clock.ts";
import { deriveKey } from "../../../kernel/seal/store-keys.ts";
import { statementOf } from "../../../kernel/identity/audit-statement.ts";
import { identity as identityContract } from "../../identity/api.ts";
import { main as identityMain } from "../../identity/main.ts";
import { trace } from "../api.ts";
import { hashOf, readLine, type Verdict, Verifier } from "../chain.api.ts";
import { main } from "../main.ts";
import { newSegment, readSegment, segmentsIn, SegmentWriter } from "./segments.ts";

const KEY = deriveKey(Buffer.alloc(32, 7), "trace", "audit");
const DAY_S = 86_400;

/** A house with identity and the trace service, and what a service of it notes. */
async function start(t: Parameters<typeof edgeHouse>[0], directory: string, config = {}, clock?: SetClock) {
  const house = edgeHouse(t, directory, clock ? { clock } : {});
  await house.start(identityMain);
  const { service } = await house.start(main, config);
  const admin = house.connect(trace, "gateway");
  const audit = new Auditor(clock ?? systemClock);
  return {
    house,
    admin,
    audit,
    files: join(directory, "trace", "audit"),
    /** Ships what a service noted. */
    ship: (from: string) =>
      house.connect(trace, from).audit({ body: { entries: audit.take(), dropped: audit.dropped } }, callOf()),
    anchor: () => house.connect(identityContract, "gateway").auditAnchor({}, callOf()),
    service,
  };
}

/** Verifies the files of a trail as `holdfast audit verify` does what the service tells of them. */
function verdictOf(directory: string, anchor: { node: string; keys: string[]; n: number; hash: string }): Verdict {
  const verifier = new Verifier({ ...anchor, anchor });
  for (const { name } of segmentsIn(directory)) {
    const { lines, damage } = readSegment(directory, name, KEY);
    lines.forEach((line) => verifier.take(line));
    damage.forEach((what) => verifier.found(what));
  }
  return verifier.end();
}

/** Hardly compressible, so that files fill up. */
const noise = (seed: string): string => [1, 2, 3, 4, 5, 6].map((n) => hashOf(`${seed} ${n}`)).join("");

const deed = (n: number) => ({
  action: "core-metadata deviceDelete",
  outcome: "done" as const,
  who: "alice",
  what: `/api/v3/device/name/pump-${n}`,
});

test("what services note is in the trail in order, found by whom and what, and under identity's signature", async (t) => {
  const { ship, audit, admin, anchor, files } = await start(t, temporary(t));
  audit.note(deed(1));
  for (let n = 0; n < 500; n++)
    audit.note({
      action: "login",
      outcome: "denied",
      who: "203.0.113.9",
      what: "/api/v3/event",
      note: "GATEWAY_TOKEN_INVALID",
    });
  audit.note({ action: "x".repeat(9_999), outcome: "done", who: "bob", what: "y".repeat(9_999) });
  await ship("gateway");
  const { lines } = await admin.auditLines({ after: 0, limit: 100 }, callOf());
  const read = lines.map((line) => readLine(line)!);
  assert.deepEqual(
    read.map(({ n, service, action, who, count }) => [n, service, action.slice(0, 30), who, count]),
    [
      [1, "gateway", "core-metadata deviceDelete", "alice", undefined],
      [2, "gateway", "login", "203.0.113.9", 500],
      [3, "gateway", "x".repeat(30), "bob", undefined],
      [4, "trace", "audit.checkpoint", "trace", undefined],
    ],
  );
  const found = async (wanted: object) =>
    (await admin.auditSearch({ limit: 100, ...wanted }, callOf())).lines.map((line) => readLine(line)!.n);
  assert.deepEqual(
    await Promise.all(
      [{ text: "PUMP-1" }, { who: "bob" }, { outcome: "denied" }, { service: "trace" }, { limit: 2 }].map(found),
    ),
    [[1], [3], [2], [4], [3, 4]],
  );
  const verdict = verdictOf(files, await anchor());
  assert.deepEqual(verdict, { lines: 4, first: 1, last: 4, checkpoints: 1, unsigned: 0, findings: [] });
});

test("a trail goes on over restarts; what a power cut left unfinished is cut off, and what it was told is kept", async (t) => {
  const directory = temporary(t);
  let run = await start(t, directory);
  run.audit.note(deed(1));
  await run.ship("gateway");
  await run.house.stop();
  const [name] = readdirSync(run.files);
  const whole = readFileSync(join(run.files, name));
  writeFileSync(join(run.files, name), Buffer.concat([whole, whole.subarray(0, 60)]));
  run = await start(t, directory);
  run.audit.note(deed(2));
  await run.ship("gateway");
  await eventually(async () => (await run.anchor()).n === 3);
  await run.house.stop();
  const verdict = verdictOf(run.files, { ...(await (await start(t, directory)).anchor()) });
  assert.deepEqual(verdict, { lines: 4, first: 1, last: 4, checkpoints: 2, unsigned: 0, findings: [] });
});

test("entries that had no place in memory are counted in the trail, and none is lost while the trace service is away", async (t) => {
  const { ship, audit, admin } = await start(t, temporary(t));
  for (let n = 0; n < 1_500; n++) audit.note(deed(n));
  const waiting = audit.take();
  for (let n = 0; n < 10; n++) audit.note(deed(2_000 + n));
  audit.giveBack(waiting);
  assert.equal(audit.dropped, 486);
  await ship("gateway");
  const { lines } = await admin.auditLines({ after: 0, limit: 5_000 }, callOf());
  assert.match(lines[0], /pump-0"/);
  assert.match(lines[1_023], /pump-1023"/);
  const lost = readLine(lines[1_024])!;
  assert.deepEqual([lost.action, lost.service, lost.count], ["audit.dropped", "gateway", 486]);
});

test("the oldest go by age and by size, not because a clock jumped, and what is left is a whole trail", async (t) => {
  const directory = temporary(t);
  const clock = new SetClock();
  const run = await start(t, directory, { auditKeepDays: 10, auditSizeBytesMax: 1_048_576 }, clock);
  const fill = async (batches: number) => {
    for (let n = 0; n < batches; n++) {
      for (let i = 0; i < 200; i++) run.audit.note({ ...deed(i), note: noise(`${n} ${i}`) });
      await run.ship("gateway");
    }
  };
  await fill(12);
  const before = segmentsIn(run.files);
  assert.ok(before.length > 2 && before[0].first === 1, "several files, none gone yet");
  clock.set(clock.wallMs() + 20 * 365 * DAY_S * 1_000);
  await fill(1);
  assert.equal(segmentsIn(run.files)[0].first, 1, "the clock jumped, and nothing went");
  for (let day = 0; day < 12; day++) {
    clock.pass(DAY_S * 1_000);
    await fill(1);
  }
  assert.ok(segmentsIn(run.files)[0].first > 1, "too old");
  await fill(30);
  const size = segmentsIn(run.files).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  assert.ok(size < 1_048_576 + 2 * 65_536 + 100_000, `${size} bytes`);
  await run.admin.auditLines({ after: 0, limit: 1 }, callOf());
  const verdict = verdictOf(run.files, await run.anchor());
  assert.deepEqual(verdict.findings, []);
  assert.ok(verdict.first > 1 && verdict.unsigned === 0);
  unlinkSync(join(run.files, segmentsIn(run.files)[0].name));
  assert.match(verdictOf(run.files, await run.anchor()).findings[0], /begins with line/);
});

/** The frames of a file, as bytes. */
function framesOf(path: string): Buffer[] {
  const bytes = readFileSync(path);
  const frames: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + 4 + bytes.readUInt32BE(at);
    frames.push(bytes.subarray(at, end));
    at = end;
  }
  return frames;
}

type Change = (directory: string, random: (below: number) => number) => string;

const anyFile = (directory: string, random: (below: number) => number): string => {
  const names = readdirSync(directory).sort();
  return join(directory, names[random(names.length)]);
};

/** Who has no key: bytes, frames and whole files are changed, taken out, moved and cut off. */
const WITHOUT_KEY: Change[] = [
  (directory, random) => {
    const path = anyFile(directory, random);
    const bytes = readFileSync(path);
    const at = random(bytes.length);
    bytes[at] ^= 1 << random(8);
    writeFileSync(path, bytes);
    return `bit of byte ${at} of ${path}`;
  },
  (directory, random) => {
    const path = anyFile(directory, random);
    const bytes = readFileSync(path);
    const left = random(bytes.length);
    writeFileSync(path, bytes.subarray(0, left));
    return `${path} cut to ${left} of ${bytes.length}`;
  },
  (directory, random) => {
    const path = anyFile(directory, random);
    const frames = framesOf(path);
    const at = random(frames.length);
    writeFileSync(path, Buffer.concat(frames.toSpliced(at, 1)));
    return `frame ${at} of ${path} taken out`;
  },
  (directory, random) => {
    const path = anyFile(directory, random);
    const frames = framesOf(path);
    const [from, to] = [random(frames.length), random(frames.length - 1)];
    const [moved] = frames.splice(from, 1);
    frames.splice(to >= from ? to + 1 : to, 0, moved);
    writeFileSync(path, Buffer.concat(frames));
    return `frame ${from} of ${path} moved to ${to}`;
  },
  (directory, random) => {
    const path = anyFile(directory, random);
    const frames = framesOf(path);
    const at = random(frames.length);
    writeFileSync(path, Buffer.concat(frames.toSpliced(random(frames.length), 0, frames[at])));
    return `frame ${at} of ${path} twice`;
  },
  (directory, random) => {
    const path = anyFile(directory, random);
    unlinkSync(path);
    return `${path} removed`;
  },
  (directory, random) => {
    const names = readdirSync(directory).sort();
    const at = random(names.length - 1);
    const [one, other] = [join(directory, names[at]), join(directory, names[at + 1])];
    renameSync(one, `${one}.aside`);
    renameSync(other, one);
    renameSync(`${one}.aside`, other);
    return `${names[at]} and the next exchanged`;
  },
  (directory, random) => {
    const names = readdirSync(directory).sort();
    const left = random(names.length);
    for (const name of names.slice(left)) unlinkSync(join(directory, name));
    return `all but the first ${left} files removed`;
  },
];

/** Who has the trace service's key, too: lines are changed, taken out, put in, exchanged or cut off, and the chain is computed anew. */
function withKey(directory: string, random: (below: number) => number): string {
  const segments = segmentsIn(directory);
  const lines = segments.flatMap(({ name }) => readSegment(directory, name, KEY).lines.map((text) => readLine(text)!));
  const at = random(lines.length);
  const kind = ["changed", "taken out", "put in", "exchanged", "cut off"][random(5)];
  if (kind === "changed") lines[at] = { ...lines[at], who: "mallory", what: `${lines[at].what}.` };
  else if (kind === "taken out") lines.splice(at, 1);
  else if (kind === "put in") lines.splice(at, 0, { ...lines[at], who: "mallory" });
  else if (kind === "cut off") lines.splice(at);
  else {
    const other = (at + 1 + random(lines.length - 1)) % lines.length;
    [lines[at], lines[other]] = [lines[other], lines[at]];
  }
  rmSync(directory, { recursive: true });
  mkdirSync(directory);
  let previous = "0".repeat(64);
  const texts = lines.map((line, i) => {
    const text = JSON.stringify({ ...line, n: i + 1, previous });
    previous = hashOf(text);
    return text;
  });
  const writer = new SegmentWriter(directory, newSegment(1, 0), KEY);
  writer.add(texts);
  writer.close();
  return `line ${at + 1} ${kind}, with the key`;
}

test("each of 1,000 random edits, deletions, reorderings and truncations of the trail's files is found", async (t) => {
  const directory = temporary(t);
  const run = await start(t, directory, { auditSizeBytesMax: 1_048_576 });
  for (let n = 0; n < 60; n++) {
    for (let i = 0; i < 10; i++) run.audit.note({ ...deed(n * 10 + i), note: noise(`${n} ${i}`) });
    await run.ship(n % 2 === 0 ? "gateway" : "identity");
    if (n % 10 === 0) await run.admin.auditLines({ after: 0, limit: 1 }, callOf());
  }
  await run.admin.auditLines({ after: 0, limit: 1 }, callOf());
  const anchor = await run.anchor();
  await run.house.stop();
  assert.deepEqual(verdictOf(run.files, anchor).findings, []);
  const names = readdirSync(run.files);
  assert.ok(names.length > 2, `${names.length} files`);
  const random = seeded(20_261_124);
  // In memory, where there is such a place: a thousand times its files are made and removed.
  const changed = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : directory, "holdfast-audit-"));
  t.after(() => rmSync(changed, { recursive: true, force: true }));
  for (let n = 0; n < 1_000; n++) {
    rmSync(changed, { recursive: true, force: true });
    mkdirSync(changed);
    for (const name of names) copyFileSync(join(run.files, name), join(changed, name));
    const change = n % 4 === 0 ? withKey : WITHOUT_KEY[random(WITHOUT_KEY.length)];
    const what = change(changed, random);
    assert.ok(verdictOf(changed, anchor).findings.length > 0, `not found: ${n}, ${what}`);
  }
});

test("an end that was cut off while the node stood still is found at the next start, and the trail says so for ever", async (t) => {
  const directory = temporary(t);
  let run = await start(t, directory);
  for (let n = 0; n < 3; n++) {
    run.audit.note(deed(n));
    await run.ship("gateway");
    await run.admin.auditLines({ after: 0, limit: 1 }, callOf());
  }
  await run.house.stop();
  const path = join(run.files, readdirSync(run.files)[0]);
  writeFileSync(path, Buffer.concat(framesOf(path).slice(0, 2)));
  run = await start(t, directory);
  run.audit.note(deed(9));
  await run.ship("gateway");
  await eventually(async () => (await run.anchor()).n > 5);
  const { findings } = verdictOf(run.files, await run.anchor());
  assert.match(findings.join("\n"), /the trail ended with line \d+; identity had signed another line 5/);
});

test("identity signs no place before the one it signed last, and nobody but the trace service gets its signature", async (t) => {
  const { house, anchor, admin, audit, ship } = await start(t, temporary(t));
  audit.note(deed(1));
  await ship("gateway");
  await admin.auditLines({ after: 0, limit: 1 }, callOf());
  const { n, hash, node } = await anchor();
  const asTrace = house.connect(identityContract, "trace");
  await asTrace.signAudit({ body: { n, hash } }, callOf());
  const other = { n, hash: hashOf("another line") };
  await assert.rejects(asTrace.signAudit({ body: other }, callOf()), { code: "IDENTITY_AUDIT_BEHIND" });
  await assert.rejects(asTrace.signAudit({ body: { n: 0, hash } }, callOf()), { code: "IDENTITY_AUDIT_BEHIND" });
  await assert.rejects(house.connect(identityContract, "gateway").signAudit({ body: { n: 9, hash } }, callOf()), {
    code: "CALLER_REFUSED",
  });
  assert.equal(statementOf(node, { n: 1, hash: "a" }), "holdfast audit checkpoint\nedge1\n1\na\n");
});
