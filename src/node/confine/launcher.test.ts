import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { after, test } from "node:test";
import { launcherFile, SCRIPT_BYTES_MAX, SCRIPT_FD } from "./launcher.ts";
import { type Arch, archOf } from "./libc.ts";
import { assemble, type Instruction, type Line } from "./machine.ts";
import { confinementOf, type Plan } from "./plan.ts";
import { Script } from "./script.ts";
import { type Report, spawnConfined } from "./spawn.ts";
import { need } from "../../../test/need.ts";

const place = mkdtempSync(join(tmpdir(), "holdfast-launcher-"));
after(() => rmSync(place, { recursive: true, force: true }));
const QEMU = { x64: "qemu-x86_64", arm64: "qemu-aarch64" };

const fileOf = (arch: Arch): string => {
  const path = join(place, `launcher-${arch}`);
  writeFileSync(path, launcherFile(arch), { mode: 0o755 });
  return path;
};

/** Runs a launcher of either machine, under an emulator where it is not this one. */
async function run(arch: Arch, script: Buffer): Promise<{ status: number; out: string; said: Buffer }> {
  const command = arch === archOf() ? [fileOf(arch)] : [QEMU[arch], fileOf(arch)];
  const child = spawn(command[0] ?? "", command.slice(1), {
    stdio: ["ignore", "pipe", "inherit", ...Array<"ignore">(SCRIPT_FD - 3).fill("ignore"), "pipe"],
  });
  const pipe = child.stdio[SCRIPT_FD as number] as unknown as Duplex;
  pipe.end(script);
  const [out, said, [status]] = await Promise.all([
    text(child.stdout as NodeJS.ReadableStream),
    // Cut off where the launcher did not read to the end.
    buffer(pipe).catch(() => Buffer.alloc(0)),
    once(child, "exit") as Promise<[number]>,
  ]);
  return { status, out, said };
}

test("each instruction is what the manuals of both machines say", () => {
  // Worked out by hand; those of x86-64 read back by a disassembler.
  const known: [Instruction, x64: string, arm64: string][] = [
    [["set", "a0", 0x12345678], "40bf78563412", "00cf8ad28046a2f2"],
    [["set", "a3", 1], "41ba01000000", "230080d20300a0f2"],
    [["move", "a1", "entry"], "4889de", "e10313aa"],
    [["move", "place", "spare"], "4c89fd", "f40315aa"],
    [["add", "entry", 64], "4881c340000000", "73020191"],
    [["load", "a5", "entry", 48], "4c8b8b30000000", "651a40f9"],
    [["load32", "spare", "entry", 4], "448bbb04000000", "750640b9"],
    [["store", "result", "spare", 8], "49898708000000", "a00600f9"],
    [["compare", "result", "spare"], "4c39f8", "1f0015eb"],
    [["call"], "0f05", "010000d4"],
  ];
  for (const [line, x64, arm64] of known) {
    assert.equal(assemble("x64", [line]).toString("hex"), x64, `x64 ${line.join(" ")}`);
    assert.equal(assemble("arm64", [line]).toString("hex"), arm64, `arm64 ${line.join(" ")}`);
  }
  // Each jumps over one call, and each back to itself.
  const jumps: [(to: ":there") => Line, x64: string, x64Back: string, arm64: string, arm64Back: string][] = [
    [(to) => ["jump", to], "e902000000", "e9fbffffff", "02000014", "00000014"],
    [(to) => ["ifDifferent", to], "0f8502000000", "0f85faffffff", "41000054", "01000054"],
    [(to) => ["ifZero", to, "place"], "4885ed0f8402000000", "4885ed0f84f7ffffff", "540000b4", "140000b4"],
    [(to) => ["ifNotZero", to, "spare"], "4d85ff0f8502000000", "4d85ff0f85f7ffffff", "550000b5", "150000b5"],
    [
      (to) => ["ifRefused", to],
      "4881f801f0ffff0f8302000000",
      "4881f801f0ffff0f83f3ffffff",
      "1ffc3fb142000054",
      "1ffc3fb1e2ffff54",
    ],
  ];
  for (const [jump, ...codes] of jumps) {
    const seen = (["x64", "arm64"] as const).flatMap((arch) => [
      assemble(arch, [jump(":there"), ["call"], ":there"]).subarray(0, arch === "x64" ? -2 : -4),
      assemble(arch, [":there", jump(":there")]),
    ]);
    assert.deepEqual(
      seen.map((code) => code.toString("hex")),
      codes,
    );
  }
  assert.throws(() => assemble("x64", [["jump", ":nowhere"]]), /no label :nowhere/);
});

for (const arch of ["x64", "arm64"] as const) {
  const skip = arch === archOf() ? false : need("qemu");

  test(`${arch}: nothing of the file can be written and executed at once`, () => {
    const file = launcherFile(arch);
    assert.ok(file.length < 1024, `${file.length} bytes`);
    const flags = [0, 1, 2].map((n) => file.readUInt32LE(64 + n * 56 + 4));
    assert.deepEqual(flags, [4 | 1, 4 | 2, 4 | 2], "read and execute; read and write; the stack: read and write");
  });

  test(
    `${arch}: the calls are made in order, results reach the later ones, and a refusal of no account is passed over`,
    { skip },
    async () => {
      const script = new Script(arch);
      const path = join(place, "text");
      writeFileSync(path, "from the file");
      const content = script.memory(Buffer.alloc(13));
      script.attempt("close", [9_999]);
      const fd = script.call("openat", [-100, script.text(path), 0, 0]);
      // The same result as an argument of two calls and as a word of memory.
      const numbers = script.memory([fd, 7n << 56n]);
      script.call("recvfrom", [fd, content, 13, 0, 0, 0], "recvfrom(a file)");
      script.call("write", [1, numbers, 16]);
      script.call("close", [fd]);
      const said = await run(arch, script.bytes());
      assert.equal(said.status, 71);
      assert.equal(script.wordsAt(Number(said.said.readBigUInt64LE(0))), "recvfrom(a file)");
      assert.equal(said.said.readBigInt64LE(8), -88n, "ENOTSOCK");
      assert.equal(said.out, "", "nothing after a refusal");
    },
  );

  test(`${arch}: a result is written wherever it is wanted`, { skip }, async () => {
    const script = new Script(arch);
    const fd = script.call("dup3", [1, 77, 0]);
    const both = script.memory([fd, fd, 1n << 63n, -1]);
    script.call("write", [fd, both, 32]);
    const { status, out, said } = await run(arch, script.bytes());
    assert.equal(status, 71, "a script without an exec ends like one that was refused");
    assert.equal(said.length, 0);
    const expected = Buffer.alloc(32, 0xff);
    [77n, 77n, 1n << 63n].forEach((word, at) => expected.writeBigUInt64LE(word, at * 8));
    assert.equal(out, expected.toString("utf8"));
  });

  test(`${arch}: half a script, none, or one that is too long does nothing`, { skip }, async () => {
    const script = new Script(arch);
    script.call("write", [1, script.text("done"), 4]);
    const whole = script.bytes();
    const long = Buffer.alloc(SCRIPT_BYTES_MAX + 1);
    whole.copy(long);
    long.writeBigUInt64LE(BigInt(long.length), 0);
    for (const bytes of [whole.subarray(0, -1), whole.subarray(0, 4), Buffer.alloc(0), long]) {
      const { status, out } = await run(arch, bytes);
      assert.deepEqual({ status, out }, { status: 71, out: "" });
    }
    assert.equal((await run(arch, whole)).out, "done");
  });
}

/** Starts a plan that cannot be carried out, and answers how that ends. */
async function refused(change: Partial<Plan>): Promise<string> {
  const plan = confinementOf({ service: "probe", nodePath: process.execPath, script: "/none.js", codeDirs: [place] });
  const reported = Promise.withResolvers<Report>();
  const child = spawnConfined({
    plan: { ...plan, ...change },
    stdio: ["ignore", "ignore", "inherit"],
    launcherPath: fileOf(archOf()),
    onReport: reported.resolve,
  });
  const [status] = (await once(child, "exit")) as [number];
  assert.equal(status, 71);
  return (await reported.promise).failed ?? "";
}

test("a service that cannot be confined is not started, and the refused call is named with its reason", async () => {
  writeFileSync(join(place, "no-program"), "text", { mode: 0o755 });
  assert.equal(
    await refused({ argv: [join(place, "no-program")] }),
    `execveat(${join(place, "no-program")}): exec format error (ENOEXEC)`,
  );
  assert.match(await refused({ argv: [] }), /argv is empty/);
  assert.match(await refused({ env: { LONG: "x".repeat(SCRIPT_BYTES_MAX) } }), /at most 262144/);
  assert.equal(await refused({ connectPorts: [70_000] }), "landlock_add_rule(port 70000): invalid argument (EINVAL)");
  if (process.getuid?.() !== 0)
    assert.equal(await refused({ uid: 60_899 }), "setgroups: operation not permitted (EPERM)");
});
