/**
 * An assembler: the dozen instructions that the launcher is made of (launcher.ts), for both machines. Each has one form,
 * with the widest operand, so that a reader can check it against the manual. Encodings: Intel SDM volume 2; Arm ARM C6.2.
 */
import type { Arch } from "./libc.ts";

/** `nr`, `a0` to `a5` and `result` are where a system call takes and leaves them; the rest survives one. */
export type Register = "nr" | "a0" | "a1" | "a2" | "a3" | "a4" | "a5" | "result" | "entry" | "place" | "spare";

export type Instruction =
  | readonly [op: "set", to: Register, value: number]
  | readonly [op: "move", to: Register, from: Register]
  | readonly [op: "add", to: Register, value: number]
  | readonly [op: "load" | "load32", to: Register, at: Register, offset: number]
  | readonly [op: "store", from: Register, at: Register, offset: number]
  | readonly [op: "compare", a: Register, b: Register]
  /** Goes on elsewhere: always, where the last comparison found a difference, where a register is 0 or is not. */
  | readonly [op: "jump" | "ifDifferent", to: string]
  | readonly [op: "ifZero" | "ifNotZero", what: Register, to: string]
  /** Goes on elsewhere where a system call's result is an errno: -4095 to -1. */
  | readonly [op: "ifRefused", to: string]
  | readonly [op: "call"];
/** One instruction, or (a string) the label of the next one. */
export type Line = Instruction | string;

/** The bytes of one instruction; `distance` from its first byte to the one that it jumps to. */
type Encode = (instruction: Instruction, distance: number) => number[];

/** Makes machine code of a program. Values are 0 to 2^31 - 1, `add` and offsets to 4095; loads of 8 bytes have offsets in eights. */
export function assemble(arch: Arch, program: readonly Line[]): Buffer {
  const encode = arch === "x64" ? encodeX64 : encodeArm64;
  const places = new Map<string, number>();
  let size = 0;
  for (const line of program) {
    if (typeof line === "string") places.set(line, size);
    // Where it jumps to changes nothing about its length.
    else size += encode(line, 0).length;
  }
  const bytes: number[] = [];
  for (const line of program) {
    if (typeof line === "string") continue;
    const label = labelOf(line);
    const place = label === undefined ? bytes.length : places.get(label);
    if (place === undefined) throw new Error(`there is no label '${label}'`);
    bytes.push(...encode(line, place - bytes.length));
  }
  return Buffer.from(bytes);
}

function labelOf(instruction: Instruction): string | undefined {
  switch (instruction[0]) {
    case "jump":
    case "ifDifferent":
    case "ifRefused":
      return instruction[1];
    case "ifZero":
    case "ifNotZero":
      return instruction[2];
    default:
      return undefined;
  }
}

const word = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);

/** rax, rdi, rsi, rdx, r10, r8, r9; a call spoils rcx and r11. The others: rbx, rbp, r15. */
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

const encodeX64: Encode = (instruction, distance) => {
  /** REX prefix, opcode, ModRM: `reg` and `rm` are registers (or reg a part of the opcode), `mod` 3 two registers, 2 memory at rm + disp32. */
  const modrm = (opcode: number, reg: number, rm: number, mod: 2 | 3, wide = true): number[] => [
    0x40 | (wide ? 8 : 0) | ((reg >> 3) << 2) | (rm >> 3),
    opcode,
    (mod << 6) | ((reg & 7) << 3) | (rm & 7),
  ];
  const jump = (...opcode: number[]): number[] => [...opcode, ...word(distance - opcode.length - 4)];
  switch (instruction[0]) {
    case "set": // mov r32, imm32: the upper half becomes 0
      return [0x40 | (X64[instruction[1]] >> 3), 0xb8 | (X64[instruction[1]] & 7), ...word(instruction[2])];
    case "move": // mov rm, reg
      return modrm(0x89, X64[instruction[2]], X64[instruction[1]], 3);
    case "add": // add rm, imm32
      return [...modrm(0x81, 0, X64[instruction[1]], 3), ...word(instruction[2])];
    case "load": // mov reg, [rm + disp32]
    case "load32":
      return [
        ...modrm(0x8b, X64[instruction[1]], X64[instruction[2]], 2, instruction[0] === "load"),
        ...word(instruction[3]),
      ];
    case "store": // mov [rm + disp32], reg
      return [...modrm(0x89, X64[instruction[1]], X64[instruction[2]], 2), ...word(instruction[3])];
    case "compare": // cmp rm, reg
      return modrm(0x39, X64[instruction[2]], X64[instruction[1]], 3);
    case "jump": // jmp rel32
      return jump(0xe9);
    case "ifDifferent": // jne rel32
      return jump(0x0f, 0x85);
    case "ifZero": // test reg, reg; je rel32
    case "ifNotZero":
      return [...modrm(0x85, X64[instruction[1]], X64[instruction[1]], 3)].concat(
        [0x0f, instruction[0] === "ifZero" ? 0x84 : 0x85],
        word(distance - 9),
      );
    case "ifRefused": // cmp rax, -4095; jae rel32
      return [...modrm(0x81, 7, X64.result, 3), ...word(-4095), 0x0f, 0x83, ...word(distance - 13)];
    case "call": // syscall
      return [0x0f, 0x05];
  }
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

const encodeArm64: Encode = (instruction, distance) => {
  const branch26 = ((distance >> 2) & 0x3ff_ffff) >>> 0;
  const branch19 = ((distance >> 2) & 0x7_ffff) << 5;
  /** An access at register + offset, counted in units of its own size. */
  const access = (opcode: number, value: Register, at: Register, units: number): number =>
    opcode | (units << 10) | (ARM64[at] << 5) | ARM64[value];
  switch (instruction[0]) {
    case "set": {
      // movz x, low; movk x, high, lsl 16
      const [, to, value] = instruction;
      return [
        ...word(0xd280_0000 | ((value & 0xffff) << 5) | ARM64[to]),
        ...word(0xf2a0_0000 | ((value >>> 16) << 5) | ARM64[to]),
      ];
    }
    case "move": // orr x, xzr, x
      return word(0xaa00_03e0 | (ARM64[instruction[2]] << 16) | ARM64[instruction[1]]);
    case "add": // add x, x, imm12
      return word(0x9100_0000 | (instruction[2] << 10) | (ARM64[instruction[1]] << 5) | ARM64[instruction[1]]);
    case "load": // ldr x, [x, imm12 * 8]
      return word(access(0xf940_0000, instruction[1], instruction[2], instruction[3] / 8));
    case "load32": // ldr w, [x, imm12 * 4]
      return word(access(0xb940_0000, instruction[1], instruction[2], instruction[3] / 4));
    case "store": // str x, [x, imm12 * 8]
      return word(access(0xf900_0000, instruction[1], instruction[2], instruction[3] / 8));
    case "compare": // subs xzr, x, x
      return word(0xeb00_001f | (ARM64[instruction[2]] << 16) | (ARM64[instruction[1]] << 5));
    case "jump": // b
      return word(0x1400_0000 | branch26);
    case "ifDifferent": // b.ne
      return word(0x5400_0001 | branch19);
    case "ifZero": // cbz x
      return word(0xb400_0000 | branch19 | ARM64[instruction[1]]);
    case "ifNotZero": // cbnz x
      return word(0xb500_0000 | branch19 | ARM64[instruction[1]]);
    case "ifRefused": // cmn x0, 4095; b.hs, from 4 bytes on
      return [...word(0xb13f_fc1f), ...word(0x5400_0002 | ((((distance - 4) >> 2) & 0x7_ffff) << 5))];
    case "call": // svc 0
      return word(0xd400_0001);
  }
};
