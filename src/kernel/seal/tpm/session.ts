/**
 * A session with the TPM whose secret only this TPM can learn: commands and answers carry a MAC, and what is sealed or unsealed
 * passes encrypted over the bus, where somebody may listen with a probe (TPM 2.0 Library, Part 1, 19 and 21).
 */
import { createCipheriv, createDecipheriv, createECDH, createHash, createHmac, timingSafeEqual } from "node:crypto";
import { u32 } from "./wire.ts";

const CFB = "aes-128-cfb";
const CFB_KEY_BYTES = 16;
export const CONTINUE = 0x01;
/** The first parameter of the command is encrypted. */
export const DECRYPT = 0x20;
/** The first parameter of the answer is encrypted. */
export const ENCRYPT = 0x40;

export const sha256 = (...parts: Uint8Array[]): Buffer => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
};

const labelled = (label: string): Buffer => Buffer.from(`${label}\0`, "latin1");

/** KDFa (Part 1, 11.4.10.2) of up to 256 bits. */
const kdfa = (key: Uint8Array, label: string, u: Uint8Array, v: Uint8Array): Buffer =>
  createHmac("sha256", key)
    .update(Buffer.concat([u32(1), labelled(label), u, v, u32(256)]))
    .digest();

/** An ECC point on P-256: each coordinate 32 bytes. */
export interface Point {
  readonly x: Buffer;
  readonly y: Buffer;
}

/** Makes a secret that only the owner of the key at `to` can compute from `point` (KDFe, Part 1, 11.4.10.3). */
export function secretFor(to: Point): { point: Point; secret: Buffer } {
  const ephemeral = createECDH("prime256v1");
  const own = ephemeral.generateKeys();
  const point = { x: own.subarray(1, 33), y: own.subarray(33, 65) };
  const shared = ephemeral.computeSecret(Buffer.concat([Buffer.of(4), to.x, to.y]));
  const secret = sha256(u32(1), shared, labelled("SECRET"), point.x, to.x);
  shared.fill(0);
  return { point, secret };
}

export class Session {
  readonly handle: number;
  readonly #key: Buffer;
  #nonceTpm: Buffer;

  constructor(handle: number, secret: Buffer, nonceTpm: Buffer, nonceCaller: Buffer) {
    this.handle = handle;
    this.#key = kdfa(secret, "ATH", nonceTpm, nonceCaller);
    this.#nonceTpm = Buffer.from(nonceTpm);
  }

  /** Encrypts the first parameter of a command. */
  encrypt(plain: Uint8Array, nonceCaller: Buffer): Buffer {
    const [key, iv] = this.#parts(nonceCaller, this.#nonceTpm);
    return createCipheriv(CFB, key, iv).update(plain);
  }

  /** Decrypts the first parameter of the answer that `accept` took. */
  decrypt(sealed: Uint8Array, nonceCaller: Buffer): Buffer {
    const [key, iv] = this.#parts(this.#nonceTpm, nonceCaller);
    return createDecipheriv(CFB, key, iv).update(sealed);
  }

  mac(cpHash: Buffer, nonceCaller: Buffer, attributes: number): Buffer {
    return this.#mac(cpHash, nonceCaller, this.#nonceTpm, attributes);
  }

  /** Takes the TPM's next nonce, if the answer is the TPM's. */
  accept(answer: { rpHash: Buffer; nonceTpm: Buffer; nonceCaller: Buffer; attributes: number; mac: Buffer }): boolean {
    const own = this.#mac(answer.rpHash, answer.nonceTpm, answer.nonceCaller, answer.attributes);
    if (own.length !== answer.mac.length || !timingSafeEqual(own, answer.mac)) return false;
    this.#nonceTpm = Buffer.from(answer.nonceTpm);
    return true;
  }

  zero(): void {
    this.#key.fill(0);
  }

  #mac(hash: Buffer, newer: Buffer, older: Buffer, attributes: number): Buffer {
    return createHmac("sha256", this.#key)
      .update(Buffer.concat([hash, newer, older, Buffer.of(attributes)]))
      .digest();
  }

  #parts(newer: Buffer, older: Buffer): [key: Buffer, iv: Buffer] {
    const bytes = kdfa(this.#key, "CFB", newer, older);
    return [bytes.subarray(0, CFB_KEY_BYTES), bytes.subarray(CFB_KEY_BYTES)];
  }
}
