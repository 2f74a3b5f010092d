/** What is put around a message: compression, then encryption. */
import { createCipheriv, createHmac, randomBytes } from "node:crypto";
import { promisify } from "node:util";
import { deflate, gzip, zstdCompress } from "node:zlib";
import { fail } from "../../../kernel/error.ts";
import type { EncryptionConfig } from "./config.ts";
import { PIPELINE_DESTINATION_INVALID } from "./wire.ts";

export type Compression = "none" | "gzip" | "zlib" | "zstd";

const compressors: Readonly<Record<Compression, (bytes: Uint8Array) => Promise<Uint8Array>>> = {
  none: async (bytes) => bytes,
  gzip: promisify(gzip),
  zlib: promisify(deflate),
  zstd: promisify(zstdCompress),
};

/** Names of the compressions in Content-Encoding (RFC 9110 8.4.1: `deflate` is the zlib format; RFC 8878). */
export const ENCODINGS: Readonly<Record<Compression, string | undefined>> = {
  none: undefined,
  gzip: "gzip",
  zlib: "deflate",
  zstd: "zstd",
};

/** Compresses, in the thread pool. */
export const compress = (bytes: Uint8Array, how: Compression): Promise<Uint8Array> => compressors[how](bytes);

export type Seal = (bytes: Uint8Array) => Uint8Array;

const KEY_BYTES = { "aes-256-gcm": 32, aes256: 64 } as const;
const NONCE_BYTES = 12;
const IV_BYTES = 16;
const HALF_BYTES = 32;

/** Makes what encrypts messages; the key is hexadecimal digits. PIPELINE_DESTINATION_INVALID for a key of another length. */
export function makeSeal({ algorithm, keyFile }: EncryptionConfig, secrets: Readonly<Record<string, string>>): Seal {
  const digits = (secrets[keyFile] ?? "").trim();
  const bytes = KEY_BYTES[algorithm];
  if (!new RegExp(`^[0-9a-fA-F]{${bytes * 2}}$`).test(digits))
    throw fail(
      PIPELINE_DESTINATION_INVALID,
      `${keyFile} must hold ${bytes * 2} hexadecimal digits, the key of ${algorithm}`,
    );
  const key = Buffer.from(digits, "hex");
  return algorithm === "aes256" ? (plain) => sealAsEdgex(key, plain) : (plain) => sealGcm(key, plain);
}

/** Nonce, ciphertext, tag; a random nonce bounds the messages of one key to 2^32 (NIST SP 800-38D 8.3). */
function sealGcm(key: Buffer, plain: Uint8Array): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** As EdgeX's Encrypt: AEAD_AES_256_CBC_HMAC_SHA_512 with nothing beside the text, IV in front, in base64. */
function sealAsEdgex(key: Buffer, plain: Uint8Array): Buffer {
  const iv = randomBytes(IV_BYTES);
  return Buffer.from(encryptThenMac(key, iv, plain, new Uint8Array()).toString("base64"));
}

/** IV, ciphertext, tag (RFC 7518 5.2.2.1): the key's first half signs, its second encrypts. */
export function encryptThenMac(key: Uint8Array, iv: Uint8Array, plain: Uint8Array, beside: Uint8Array): Buffer {
  const cipher = createCipheriv("aes-256-cbc", key.subarray(HALF_BYTES), iv);
  const sealed = Buffer.concat([iv, cipher.update(plain), cipher.final()]);
  const bits = Buffer.alloc(8);
  bits.writeBigUInt64BE(BigInt(beside.length) * 8n);
  const mac = createHmac("sha512", key.subarray(0, HALF_BYTES)).update(beside).update(sealed).update(bits).digest();
  return Buffer.concat([sealed, mac.subarray(0, HALF_BYTES)]);
}
