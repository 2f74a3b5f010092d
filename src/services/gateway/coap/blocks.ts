/** Bodies in blocks (RFC 7959): those that come, put together, and those that go, cut up. Bounded in number, bytes and time. */
import type { Clock } from "../../../kernel/clock.ts";
import { uintBytes, uintOf } from "./packet.ts";

/** Larger bodies are refused with 4.13, larger answers with 5.02. */
export const BODY_BYTES_MAX = 65_536;
/** Of one kind, of all devices; the oldest goes. */
const TRANSFERS_MAX = 128;
/** A body that is not asked on for so long is forgotten. */
const KEPT_MS = 60_000;

export interface Block {
  readonly number: number;
  readonly more: boolean;
  /** 16 to 1024 bytes are 0 to 6. */
  readonly exponent: number;
}

export const EXPONENT_MAX = 6;
export const sizeOf = (exponent: number): number => 16 << exponent;

/** Reads a block option (RFC 7959 2.2); undefined where it is none. */
export function readBlock(value: Buffer): Block | undefined {
  const number = uintOf(value, 3);
  if (number === undefined || (number & 7) > EXPONENT_MAX) return undefined;
  return { number: number >> 4, more: (number & 8) !== 0, exponent: number & 7 };
}

export const writeBlock = ({ number, more, exponent }: Block): Buffer =>
  uintBytes((number << 4) | (more ? 8 : 0) | exponent);

/** What is kept for devices by a key, each for a while. */
export class Kept<T> {
  readonly #clock: Clock;
  readonly #all = new Map<string, { readonly value: T; readonly untilMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get(key: string): T | undefined {
    const found = this.#all.get(key);
    if (found && found.untilMs < this.#clock.monotonicMs()) this.#all.delete(key);
    return this.#all.get(key)?.value;
  }

  put(key: string, value: T): void {
    this.#all.delete(key);
    this.#all.set(key, { value, untilMs: this.#clock.monotonicMs() + KEPT_MS });
    for (const oldest of this.#all.keys()) {
      if (this.#all.size <= TRANSFERS_MAX) break;
      this.#all.delete(oldest);
    }
  }

  forget(key: string): void {
    this.#all.delete(key);
  }
}

/** How a block of a body is to be answered: with a code, or the whole body is there. */
export type Taken = { readonly body: Buffer } | { readonly refused: "incomplete" | "tooLarge" } | "continue";

/** Puts together what devices send. */
export class Bodies {
  readonly #bodies: Kept<Buffer>;

  constructor(clock: Clock) {
    this.#bodies = new Kept(clock);
  }

  /** Takes the next block; one out of order ends the transfer (RFC 7959 2.5: 4.08). */
  take(key: string, { number, more, exponent }: Block, payload: Buffer): Taken {
    const from = number * sizeOf(exponent);
    const before = number === 0 ? Buffer.alloc(0) : this.#bodies.get(key);
    const isWhole = !more || payload.length === sizeOf(exponent);
    if (!before || before.length !== from || !isWhole) {
      this.#bodies.forget(key);
      return { refused: "incomplete" };
    }
    if (from + payload.length > BODY_BYTES_MAX) {
      this.#bodies.forget(key);
      return { refused: "tooLarge" };
    }
    const body = Buffer.concat([before, payload]);
    if (more) this.#bodies.put(key, body);
    else this.#bodies.forget(key);
    return more ? "continue" : { body };
  }
}
