/**
 * An assembler: the dozen instructions that the launcher is made of (launcher.ts), for both machines. Each has one form,
 * with the widest operand, so that a reader can check it against the manual: Intel SDM volume 2, Arm ARM C6.2.
 */
import type { Arch } from "./libc.ts";

/** `nr`, `a0` to `a5` and `result` are where a system call takes and leaves them; the rest survives one. */
export type Register = "nr" | "a0" | "a1" | "a2" | "a3" | "a4" | "a5" | "result" | "entry" | "place" | "spare";
/** Names a place in the program. */
export type Label = `:${string}`;

/** The instructions, each as its bytes. Values are 0 to 2^31 - 1, what is added and offsets at most 4095, offsets in words. */
interface Machine {
  set(to: Register, value: number): number[];
  move(to: Register, from: Register): number[];
  add(to: Register, value: number): number[];
  load(to: Register, at: Register, offset: number): number[];
  load32(to: Register, at: Register, offset: number): number[];
  store(from: Register, at: Register, offset: number): number[];
  compare(a: Register, b: Register): number[];
  /** Goes on elsewhere, so many bytes from its own first one; a program names the place instead. */
  jump(distance: Distance): number[];
  /** The same where the last comparison found a difference. */
  ifDifferent(distance: Distance): number[];
  ifZero(distance: Distance, what: Register): number[];
  ifNotZero(distance: Distance, what: Register): number[];
  /** The same where a system call's result is an errno: -4095 to -1. */
  ifRefused(distance: Distance): number[];
  call(): number[];
}
type Distance = number;

/** A jump's arguments as a program gives them; no other instruction begins with a number. */
type Named<Args extends unknown[]> = Args extends [Distance, ...infer Rest] ? [to: Label, ...Rest] : Args;
export type Instruction = {
  [Op in keyof Machine]: readonly [op: Op, ...Named<Parameters<Machine[Op]>>];
}[keyof Machine];
/** One instruction, or the label of the next one. */
export type Line = Instruction | Label;

/** Makes machine code of a program; throws where a label is missing. */
export function assemble(arch: Arch, program: readonly Line[]): Buffer {
  const machine = MACHINES[arch];
  const places = new Map<string, number>();
  const isLabel = (arg: unknown): arg is Label => typeof arg === "string" && arg.startsWith(":");
  const encode = ([op, ...args]: Instruction, distanceTo: (label: Label) => number): number[] =>
    (machine[op] as (...values: unknown[]) => number[])(...args.map((arg) => (isLabel(arg) ? distanceTo(arg) : arg)));
  let size = 0;
  for (const line of program) {
    if (typeof line === "string") places.set(line, size);
    // Where it jumps to changes nothing about its length.
    else size += encode(line, () => 0).length;
  }
  const bytes: number[] = [];
  for (const line of program) {
    if (typeof line === "string") continue;
    const at = bytes.length;
    const code = encode(line, (label) => {
      const place = places.get(label);
      if (place === undefined) throw new Error(`there is no label ${label}`);
      return place - at;
    });
    bytes.push(...code);
  }
  return Buffer.from(bytes);
}

const word = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);

/** rax, rdi, rsi, rdx, r10, r8, r9, of which a call spoils rax; it spoils rcx and r11, too. The others: rbx, rbp, r15. */
const X64: Record<Register, number> = {
  nr: 0,
  result: 0,
  a0: 7,
  a1: 6,
  a2: 2,
  a3: 10,
  a4: 8,
  a5: 9,
  entry: 3,
  place: 5,
  spare: 15,
};

/** REX prefix, opcode and ModRM: `reg` is a register or a part of the opcode, `rm` a register (mod 3) or memory at it + disp32 (mod 2). */
const modrm = (opcode: number, reg: number, rm: number, mod: 2 | 3, wide: 0 | 8 = 8): number[] => [
  0x40 | wide | ((reg >> 3) << 2) | (rm >> 3),
  opcode,
  (mod << 6) | ((reg & 7) << 3) | (rm & 7),
];
/** Distances count from behind the instruction there. */
const jumpX64 = (distance: number, ...before: number[]): number[] => [...before, ...word(distance - before.length - 4)];

const x64: Machine = {
  // mov r32, imm32: the upper half becomes 0
  set: (to, value) => [0x40 | (X64[to] >> 3), 0xb8 | (X64[to] & 7), ...word(value)],
  // mov rm, reg
  move: (to, from) => modrm(0x89, X64[from], X64[to], 3),
  // add rm, imm32
  add: (to, value) => [...modrm(0x81, 0, X64[to], 3), ...word(value)],
  // mov reg, [rm + disp32]
  load: (to, at, offset) => [...modrm(0x8b, X64[to], X64[at], 2), ...word(offset)],
  load32: (to, at, offset) => [...modrm(0x8b, X64[to], X64[at], 2, 0), ...word(offset)],
  // mov [rm + disp32], reg
  store: (from, at, offset) => [...modrm(0x89, X64[from], X64[at], 2), ...word(offset)],
  // cmp rm, reg
  compare: (a, b) => modrm(0x39, X64[b], X64[a], 3),
  // jmp rel32
  jump: (distance) => jumpX64(distance, 0xe9),
  // jne rel32
  ifDifferent: (distance) => jumpX64(distance, 0x0f, 0x85),
  // test reg, reg; je or jne rel32
  ifZero: (distance, what) => jumpX64(distance, ...modrm(0x85, X64[what], X64[what], 3), 0x0f, 0x84),
  ifNotZero: (distance, what) => jumpX64(distance, ...modrm(0x85, X64[what], X64[what], 3), 0x0f, 0x85),
  // cmp rax, -4095; jae rel32
  ifRefused: (distance) => jumpX64(distance, ...modrm(0x81, 7, X64.result, 3), ...word(-4095), 0x0f, 0x83),
  // syscall
  call: () => [0x0f, 0x05],
};

/** x8, x0 to x5; a call keeps all but x0. The others: x19 to x21. */
const ARM64: Record<Register, number> = {
  nr: 8,
  result: 0,
  a0: 0,
  a1: 1,
  a2: 2,
  a3: 3,
  a4: 4,
  a5: 5,
  entry: 19,
  place: 20,
  spare: 21,
};

/** Two registers, the second from bit 5 on; or an access at the second + offset, which counts in units of its own size. */
const pair = (opcode: number, first: Register, second: Register, units = 0): number[] =>
  word(opcode | (units << 10) | (ARM64[second] << 5) | ARM64[first]);
/** A distance in words, of 19 bits from bit 5 on. */
const near = (distance: number): number => ((distance >> 2) & 0x7_ffff) << 5;

const arm64: Machine = {
  // movz x, imm16; movk x, imm16, lsl 16
  set: (to, value) => [
    ...word(0xd280_0000 | ((value & 0xffff) << 5) | ARM64[to]),
    ...word(0xf2a0_0000 | ((value >>> 16) << 5) | ARM64[to]),
  ],
  // orr x, xzr, x
  move: (to, from) => word(0xaa00_03e0 | (ARM64[from] << 16) | ARM64[to]),
  // add x, x, imm12
  add: (to, value) => pair(0x9100_0000, to, to, value),
  // ldr x, [x, imm12 * 8]; ldr w, [x, imm12 * 4]; str x, [x, imm12 * 8]
  load: (to, at, offset) => pair(0xf940_0000, to, at, offset / 8),
  load32: (to, at, offset) => pair(0xb940_0000, to, at, offset / 4),
  store: (from, at, offset) => pair(0xf900_0000, from, at, offset / 8),
  // subs xzr, x, x
  compare: (a, b) => word(0xeb00_001f | (ARM64[b] << 16) | (ARM64[a] << 5)),
  // b; b.ne; cbz x; cbnz x
  jump: (distance) => word(0x1400_0000 | ((distance >> 2) & 0x3ff_ffff)),
  ifDifferent: (distance) => word(0x5400_0001 | near(distance)),
  ifZero: (distance, what) => word(0xb400_0000 | near(distance) | ARM64[what]),
  ifNotZero: (distance, what) => word(0xb500_0000 | near(distance) | ARM64[what]),
  // cmn x0, 4095; b.hs, which is 4 bytes further on
  ifRefused: (distance) => [...word(0xb13f_fc1f), ...word(0x5400_0002 | near(distance - 4))],
  // svc 0
  call: () => word(0xd400_0001),
};

const MACHINES: Record<Arch, Machine> = { x64, arm64 };
