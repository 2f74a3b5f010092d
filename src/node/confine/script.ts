/** A script for the launcher: system calls in order, and the memory that they point to. */
import { code, fail } from "../../kernel/error.ts";
import type { Arch } from "./libc.ts";
import { CALL, CALL_BYTES, CALLS_AT, EXIT_NOT_CONFINED, SCRIPT_ADDRESS, SCRIPT_BYTES_MAX } from "./launcher.ts";
import { MADE, numberOf } from "./syscalls.ts";

export const NODE_SCRIPT_SIZE = code(
  "NODE_SCRIPT_SIZE",
  "too-large",
  "Name fewer paths, ports, arguments or variables for the service; the message says how many bytes are possible.",
);

/** The address of memory, once it has one. */
export class Memory {
  readonly bytes: number;
  /** Its content, or the words of it. */
  readonly content: Uint8Array | readonly Word[];

  constructor(content: Uint8Array | readonly Word[]) {
    this.content = content;
    // In whole words, since a result is written as one.
    this.bytes = content instanceof Uint8Array ? Math.ceil(content.length / 8) * 8 : content.length * 8;
  }
}
/** What a call will answer. */
export class Result {
  /** The call's place in the script. */
  readonly index: number;

  constructor(index: number) {
    this.index = index;
  }
}
/** A word of 64 bits. */
export type Word = number | bigint | Memory | Result;

interface Call {
  number: number;
  args: readonly Word[];
  words: string;
  optional: boolean;
}

export class Script {
  readonly #arch: Arch;
  readonly #calls: Call[] = [];
  readonly #memory: Memory[] = [];

  constructor(arch: Arch) {
    this.#arch = arch;
  }

  /** Adds a call of up to six arguments; `words` name the offending thing where it is refused. */
  call(name: keyof typeof MADE, args: readonly Word[], words: string = name): Result {
    return this.#add(name, args, words, false);
  }

  /** Adds a call whose refusal is of no account. */
  attempt(name: keyof typeof MADE, args: readonly Word[]): void {
    this.#add(name, args, name, true);
  }

  /** Adds memory: bytes as they are, words one after the other. */
  memory(content: Uint8Array | readonly Word[]): Memory {
    const memory = new Memory(content);
    this.#memory.push(memory);
    return memory;
  }

  /** Adds a string that ends in NUL. */
  text(value: string): Memory {
    return this.memory(Buffer.from(`${value}\0`));
  }

  /** Adds strings as C wants argv and envp: an array of pointers that ends in NULL. */
  texts(values: readonly string[]): Memory {
    return this.memory([...values.map((value) => this.text(value)), 0]);
  }

  /** Answers the words of the call at an address of the launcher. */
  wordsAt(address: number): string {
    return this.#calls[(address - SCRIPT_ADDRESS - CALLS_AT) / CALL_BYTES]?.words ?? `no call (address ${address})`;
  }

  /** Lays the script out as the launcher reads it. Fails with NODE_SCRIPT_SIZE. */
  bytes(): Buffer {
    // Nothing is ever made of what lies behind the last call.
    this.call("exit_group", [EXIT_NOT_CONFINED]);
    let size = CALLS_AT + this.#calls.length * CALL_BYTES;
    const at = new Map<Memory, number>();
    for (const memory of this.#memory) {
      at.set(memory, size);
      size += memory.bytes;
    }
    if (size > SCRIPT_BYTES_MAX)
      throw fail(NODE_SCRIPT_SIZE, `what confines the service takes ${size} bytes, at most ${SCRIPT_BYTES_MAX}`);
    return this.#write(Buffer.alloc(size), at);
  }

  #write(script: Buffer, at: ReadonlyMap<Memory, number>): Buffer {
    /** By call, the last place so far that wants its result; each place holds the address of the one before. */
    const wanted: number[] = this.#calls.map(() => 0);
    const put = (word: Word, offset: number): void => {
      if (word instanceof Memory) return writeWord(script, SCRIPT_ADDRESS + (at.get(word) ?? Number.NaN), offset);
      if (!(word instanceof Result)) return writeWord(script, word, offset);
      writeWord(script, wanted[word.index] ?? 0, offset);
      wanted[word.index] = SCRIPT_ADDRESS + offset;
    };
    writeWord(script, script.length, 0);
    for (const [{ content }, offset] of at) {
      if (content instanceof Uint8Array) script.set(content, offset);
      else content.forEach((word, index) => put(word, offset + index * 8));
    }
    this.#calls.forEach(({ number, args, optional }, index) => {
      const offset = CALLS_AT + index * CALL_BYTES;
      script.writeUInt32LE(number, offset + CALL.number);
      script.writeUInt32LE(optional ? 1 : 0, offset + CALL.optional);
      args.forEach((word, n) => put(word, offset + CALL.arguments + n * 8));
    });
    wanted.forEach((place, index) => writeWord(script, place, CALLS_AT + index * CALL_BYTES + CALL.wanted));
    return script;
  }

  #add(name: keyof typeof MADE, args: readonly Word[], words: string, optional: boolean): Result {
    this.#calls.push({ number: numberOf(MADE[name], this.#arch), args, words, optional });
    return new Result(this.#calls.length - 1);
  }
}

/** Writes 64 bits, negative numbers as two's complement. */
function writeWord(script: Buffer, value: number | bigint, offset: number): void {
  script.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), offset);
}
