/**
 * The launcher: a program of a few hundred bytes that becomes one confined service. It is written here, instruction by
 * instruction, since a device has no compiler and a second Node costs every start as much as the service itself. It reads a
 * script of system calls (script.ts) from its supervisor and makes them in order; the last one executes Node.
 */
import type { Arch } from "./libc.ts";
import { assemble, type Line } from "./machine.ts";
import { MADE, numberOf } from "./syscalls.ts";

/** Where the script arrives, and where the launcher tells which call was refused. No service has so many descriptors. */
export const SCRIPT_FD = 31;
/** Where the script lies in the launcher's memory: known before it is started, so that a script can hold addresses. */
export const SCRIPT_ADDRESS = 0x1000_0000;
/** A script has about 20 kB; what is longer is not started (script.ts). */
export const SCRIPT_BYTES_MAX = 256 * 1024;
/** What the launcher says: which call was refused and how (tell); or nothing but zeros, just before the exec (steps.ts). */
export const SAID_BYTES = 16;
/** The script starts with its length and room for what is said; its calls follow, eight words each. */
export const CALLS_AT = 16;
export const CALL_BYTES = 64;
/** Offsets within a call: its number, whether a refusal is of no account, its six arguments, who wants its result. */
export const CALL = { number: 0, optional: 4, arguments: 8, wanted: 56 };
/** sysexits.h EX_OSERR: the supervisor tells it from the service's own exits by the report. */
export const EXIT_NOT_CONFINED = 71;

const MSG_WAITALL = 0x100;

/** What the launcher does, for either machine. */
function program(arch: Arch): Line[] {
  const number = (name: keyof typeof MADE): Line => ["set", "nr", numberOf(MADE[name], arch)];
  return [...receive(number("recvfrom")), ...carryOut, ...tell(number("write")), ...end(number("exit_group"))];
}

/** The whole script or nothing: the supervisor closes its side behind it. */
const receive = (number: Line): Line[] => [
  number,
  ["set", "a0", SCRIPT_FD],
  ["set", "a1", SCRIPT_ADDRESS],
  ["set", "a2", SCRIPT_BYTES_MAX],
  ["set", "a3", MSG_WAITALL],
  ["set", "a4", 0],
  ["set", "a5", 0],
  ["call"],
  ["set", "entry", SCRIPT_ADDRESS],
  ["load", "spare", "entry", 0],
  ["compare", "result", "spare"],
  ["ifDifferent", ":end"],
  ["add", "entry", CALLS_AT],
];

const carryOut: Line[] = [
  ":next",
  ["load32", "nr", "entry", CALL.number],
  ...(["a0", "a1", "a2", "a3", "a4", "a5"] as const).map((to, at): Line => [
    "load",
    to,
    "entry",
    CALL.arguments + at * 8,
  ]),
  ["call"],
  ["ifRefused", ":refused"],
  // A result is written to each place that wants it; the places form a list, each holding the address of the next.
  ["load", "place", "entry", CALL.wanted],
  ":wanted",
  ["ifZero", ":done", "place"],
  ["load", "spare", "place", 0],
  ["store", "result", "place", 0],
  ["move", "place", "spare"],
  ["jump", ":wanted"],
  ":done",
  ["add", "entry", CALL_BYTES],
  ["jump", ":next"],
];

/** Tells where the refused call lies, and the errno as a negative number. */
const tell = (number: Line): Line[] => [
  ":refused",
  ["load32", "spare", "entry", CALL.optional],
  ["ifNotZero", ":done", "spare"],
  ["set", "spare", SCRIPT_ADDRESS],
  ["store", "entry", "spare", 0],
  ["store", "result", "spare", 8],
  number,
  ["set", "a0", SCRIPT_FD],
  ["set", "a1", SCRIPT_ADDRESS],
  ["set", "a2", SAID_BYTES],
  ["call"],
];

const end = (number: Line): Line[] => [":end", number, ["set", "a0", EXIT_NOT_CONFINED], ["call"]];

// elf.h.
const HEADER_BYTES = 64;
const SEGMENT_BYTES = 56;
const ET_EXEC = 2;
const EM: Record<Arch, number> = { x64: 62, arm64: 183 };
const PT = { load: 1, gnuStack: 0x6474_e551 };
const [X, W, R] = [1, 2, 4];
const CODE_ADDRESS = 0x40_0000;
/** The largest page of the machines we know: arm64 has kernels with 64 kB. */
const PAGE_BYTES = 0x1_0000;

/**
 * Writes the launcher as an executable file (ELF, static, at fixed addresses) for a machine. Nothing in it can be written
 * and executed at once: the code is one segment, the room for the script another, the stack holds no code.
 */
export function launcherFile(arch: Arch): Buffer {
  const code = assemble(arch, program(arch));
  const codeAt = HEADER_BYTES + 3 * SEGMENT_BYTES;
  const sizeBytes = codeAt + code.length;
  const header = Buffer.alloc(HEADER_BYTES);
  // Magic, 64 bits, little-endian, version 1.
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  header.writeUInt16LE(ET_EXEC, 16);
  header.writeUInt16LE(EM[arch], 18);
  header.writeUInt32LE(1, 20);
  header.writeBigUInt64LE(BigInt(CODE_ADDRESS + codeAt), 24);
  header.writeBigUInt64LE(BigInt(HEADER_BYTES), 32);
  header.writeUInt16LE(HEADER_BYTES, 52);
  header.writeUInt16LE(SEGMENT_BYTES, 54);
  header.writeUInt16LE(3, 56);
  return Buffer.concat([
    header,
    segment(PT.load, R | X, CODE_ADDRESS, sizeBytes, sizeBytes),
    // Begins as the file does, as every program's data does: some kernels refuse a segment with nothing of the file in it.
    segment(PT.load, R | W, SCRIPT_ADDRESS, sizeBytes, SCRIPT_BYTES_MAX),
    segment(PT.gnuStack, R | W, 0, 0, 0),
    code,
  ]);
}

function segment(type: number, flags: number, address: number, fileBytes: number, memoryBytes: number): Buffer {
  const bytes = Buffer.alloc(SEGMENT_BYTES);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(flags, 4);
  bytes.writeBigUInt64LE(BigInt(address), 16);
  bytes.writeBigUInt64LE(BigInt(address), 24);
  bytes.writeBigUInt64LE(BigInt(fileBytes), 32);
  bytes.writeBigUInt64LE(BigInt(memoryBytes), 40);
  bytes.writeBigUInt64LE(BigInt(PAGE_BYTES), 48);
  return bytes;
}
