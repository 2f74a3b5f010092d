/** The bytes of TPM 2.0 commands and answers (TCG TPM 2.0 Library, Part 2 and 3): big-endian numbers, texts with their length. */
import { fail } from "../../error.ts";
import { SEAL_TPM_REFUSED } from "../codes.ts";

export const TAG = { plain: 0x8001, sessions: 0x8002 } as const;
export const COMMAND = {
  createPrimary: 0x131,
  create: 0x153,
  load: 0x157,
  unseal: 0x15e,
  flushContext: 0x165,
  startAuthSession: 0x176,
  pcrRead: 0x17e,
  policyPcr: 0x17f,
  policyGetDigest: 0x189,
} as const;
export const ALGORITHM = { aes: 6, keyedHash: 8, sha256: 0x0b, null: 0x10, ecc: 0x23, cfb: 0x43 } as const;
export const HANDLE = { owner: 0x4000_0001, null: 0x4000_0007 } as const;
/** Tag, size, code. */
export const HEADER_BYTES = 10;
/** TPMs of today take 4096 bytes a command and answer. */
export const MESSAGE_BYTES_MAX = 4096;

export const u8 = (value: number): Buffer => Buffer.of(value);
export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
/** TPM2B: a length of two bytes and the bytes. */
export const sized = (...parts: Uint8Array[]): Buffer => {
  const bytes = Buffer.concat(parts);
  return Buffer.concat([u16(bytes.length), bytes]);
};
export const NOTHING = sized();

/** Reads an answer from front to back; SEAL_TPM_REFUSED where it is shorter than it says. */
export class Answer {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  take(count: number): Buffer {
    if (this.#at + count > this.#bytes.length)
      throw fail(SEAL_TPM_REFUSED, `the TPM's answer ends after ${this.#bytes.length} bytes, in the middle of a value`);
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }
  u8(): number {
    return this.take(1).readUInt8();
  }
  u16(): number {
    return this.take(2).readUInt16BE();
  }
  u32(): number {
    return this.take(4).readUInt32BE();
  }
  sized(): Buffer {
    return this.take(this.u16());
  }
}

/** TPML_PCR_SELECTION of one bank, SHA-256. */
export function pcrSelection(pcrs: readonly number[]): Buffer {
  const bits = Buffer.alloc(3);
  for (const pcr of pcrs) bits[pcr >> 3] = (bits[pcr >> 3] ?? 0) | (1 << (pcr & 7));
  return Buffer.concat([u32(1), u16(ALGORITHM.sha256), u8(bits.length), bits]);
}
