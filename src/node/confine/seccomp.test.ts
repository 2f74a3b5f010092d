import assert from "node:assert/strict";
import { test } from "node:test";
import type { Arch } from "./libc.ts";
import { filterOf, type FilterInput } from "./seccomp.ts";
import { JUDGED, numberOf, REFUSED } from "./syscalls.ts";

const AUDIT = { x64: 0xc000_003e, arm64: 0xc000_00b7 };
const PID = 4242;
const input = (arch: Arch, more: Partial<FilterInput> = {}): FilterInput => ({
  arch,
  pid: PID,
  execFd: 500,
  udp: false,
  unixSockets: false,
  bind: false,
  listenFds: [3],
  ...more,
});

/** Runs a filter as the kernel would (seccomp(2)), for the machine that is not at hand too. */
function verdict(program: Buffer, audit: number, number: number, args: readonly number[] = []): string {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(number, 0);
  data.writeUInt32LE(audit >>> 0, 4);
  args.forEach((value, at) => data.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), 16 + at * 8));
  let a = 0;
  for (let at = 0; at < program.length / 8; at++) {
    const [op, yes, no, k] = [
      program.readUInt16LE(at * 8),
      program[at * 8 + 2] ?? 0,
      program[at * 8 + 3] ?? 0,
      program.readUInt32LE(at * 8 + 4),
    ];
    if (op === 0x20) a = data.readUInt32LE(k);
    else if (op === 0x54) a = (a & k) >>> 0;
    else if (op === 0x05) at += k;
    else if (op === 0x15) at += a === k ? yes : no;
    else if (op === 0x35) at += a >= k ? yes : no;
    else if (op === 0x45) at += (a & k) !== 0 ? yes : no;
    else if (op === 0x06)
      return k === 0x7fff_0000
        ? "allow"
        : k === 0x8000_0000
          ? "kill"
          : k === 0x0005_0001
            ? "EPERM"
            : k === 0x0005_0026
              ? "ENOSYS"
              : `?${k}`;
    else assert.fail(`an instruction the simulator does not know: ${op}`);
  }
  return "fell off the end";
}

for (const arch of ["x64", "arm64"] as const) {
  const judge = (more: Partial<FilterInput> = {}) => {
    const program = filterOf(input(arch, more));
    return (name: keyof typeof JUDGED, ...args: number[]): string =>
      verdict(program, AUDIT[arch], numberOf(JUDGED[name], arch), args);
  };

  test(`${arch}: what no service needs is refused, and all else that is not judged is allowed`, () => {
    const program = filterOf(input(arch));
    const refused = new Set(Object.values(REFUSED).map((pair) => numberOf<number | null>(pair, arch)));
    const judged = new Set(Object.values(JUDGED).map((pair) => numberOf(pair, arch)));
    for (let number = 0; number < 463; number++) {
      if (judged.has(number)) continue;
      assert.equal(verdict(program, AUDIT[arch], number), refused.has(number) ? "EPERM" : "allow", `call ${number}`);
    }
    assert.equal(verdict(program, AUDIT[arch], 463), "ENOSYS");
  });

  test(`${arch}: a call by another machine's ABI ends the process`, () => {
    const program = filterOf(input(arch));
    for (const audit of [AUDIT[arch === "x64" ? "arm64" : "x64"], 0x4000_0003, 0])
      assert.equal(verdict(program, audit, 1), "kill");
    if (arch === "x64") assert.equal(verdict(program, AUDIT.x64, 0x4000_0001), "EPERM");
  });

  test(`${arch}: threads may be made, processes and namespaces not; only the launcher's exec passes`, () => {
    const call = judge();
    assert.equal(call("clone", 0x3d_0f00), "allow");
    assert.equal(call("clone", 0x0120_0011), "EPERM");
    assert.equal(call("clone", 0x1000_0000 | 0x0001_0000), "EPERM");
    assert.equal(call("clone3", 0), "ENOSYS");
    assert.equal(call("execveat", 500, 0, 0, 0, 0x1000), "allow");
    assert.equal(call("execveat", 501, 0, 0, 0, 0x1000), "EPERM");
    assert.equal(call("execveat", 500, 0, 0, 0, 0), "EPERM");
  });

  test(`${arch}: signals and limits reach the service itself only`, () => {
    const call = judge();
    for (const name of ["kill", "tgkill"] as const) {
      assert.equal(call(name, PID), "allow");
      for (const other of [1, 0, -1, -PID, PID + 1]) assert.equal(call(name, other), "EPERM", `${name} ${other}`);
    }
    assert.equal(call("prlimit64", 0), "allow");
    assert.equal(call("prlimit64", 1), "EPERM");
    assert.equal(call("prctl", 15), "allow");
    assert.equal(call("prctl", 4), "EPERM");
    assert.equal(call("ioctl", 0, 0x5412), "EPERM");
    assert.equal(call("ioctl", 0, 0x5421), "allow");
  });

  test(`${arch}: TCP is open, UDP and Unix sockets as the plan says, everything else never`, () => {
    const [CLOEXEC_NONBLOCK, STREAM, DGRAM, RAW] = [0x8_0800, 1, 2, 3];
    const plain = judge();
    const udp = judge({ udp: true });
    const unix = judge({ unixSockets: true });
    for (const family of [2, 10]) {
      for (const call of [plain, udp, unix]) {
        for (const protocol of [0, 6])
          assert.equal(call("socket", family, STREAM | CLOEXEC_NONBLOCK, protocol), "allow");
        for (const protocol of [132, 256, 262, 17]) assert.equal(call("socket", family, STREAM, protocol), "EPERM");
        for (const protocol of [0, 1, 255]) assert.equal(call("socket", family, RAW, protocol), "EPERM");
        assert.equal(call("socket", family, DGRAM, 1), "EPERM");
      }
      assert.equal(plain("socket", family, DGRAM, 0), "EPERM");
      for (const protocol of [0, 17]) assert.equal(udp("socket", family, DGRAM | CLOEXEC_NONBLOCK, protocol), "allow");
      assert.equal(udp("socket", family, DGRAM, 136), "EPERM");
    }
    for (const family of [16, 17, 31, 38, 40, 43, 44]) assert.equal(unix("socket", family, STREAM, 0), "EPERM");
    assert.equal(plain("socket", 1, STREAM, 0), "EPERM");
    assert.equal(plain("socketpair", 1, DGRAM, 0), "EPERM");
    assert.equal(unix("socket", 1, STREAM, 0), "allow");
    for (const [name, index] of [
      ["sendto", 3],
      ["sendmsg", 2],
      ["sendmmsg", 3],
    ] as const) {
      assert.equal(plain(name, ...Array<number>(index).fill(0), 0x2000_0000 | 0x4000), "EPERM");
      assert.equal(plain(name, ...Array<number>(index).fill(0), 0x4000), "allow");
    }
  });

  test(`${arch}: without a port to bind, only inherited sockets may listen`, () => {
    const plain = judge();
    const binding = judge({ bind: true });
    assert.equal(plain("bind", 3), "EPERM");
    assert.equal(plain("listen", 3), "allow");
    assert.equal(plain("listen", 4), "EPERM");
    assert.equal(binding("bind", 9), "allow");
    assert.equal(binding("listen", 9), "allow");
  });
}
