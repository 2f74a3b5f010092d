/** Authenticated encryption of small secrets: AES-256-GCM, a random nonce each time. Bulk data has its own ways (journal, database). */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { fail } from "../error.ts";
import { SEAL_BYTES_REFUSED } from "./codes.ts";

export const KEY_BYTES = 32;
const FORMAT = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** What sealing adds to a secret: format, nonce, tag. */
export const SEAL_OVERHEAD_BYTES = 1 + NONCE_BYTES + TAG_BYTES;

/**
 * Seals bytes under a 32-byte key; `aad` says what they are for, and must be the same to open them. Random nonces bound the
 * uses of one key to 2^32 (NIST SP 800-38D 8.3): meant for secrets, not for records.
 */
export function sealBytes(key: Uint8Array, plaintext: Uint8Array, aad: string): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(aad, "utf8"));
  const sealed = cipher.update(plaintext);
  cipher.final();
  return Buffer.concat([Buffer.of(FORMAT), nonce, sealed, cipher.getAuthTag()]);
}

/** Opens what `sealBytes` made; SEAL_BYTES_REFUSED when key, `aad` or any bit differs. */
export function openBytes(key: Uint8Array, sealed: Uint8Array, aad: string): Buffer {
  if (sealed.length < SEAL_OVERHEAD_BYTES || sealed[0] !== FORMAT) {
    throw fail(
      SEAL_BYTES_REFUSED,
      `sealed bytes (${sealed.length} of them, for '${aad}') are not of a form that this version knows`,
    );
  }
  const tagAt = sealed.length - TAG_BYTES;
  const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(1, 1 + NONCE_BYTES), {
    authTagLength: TAG_BYTES,
  });
  decipher.setAAD(Buffer.from(aad, "utf8"));
  decipher.setAuthTag(sealed.subarray(tagAt));
  const plaintext = decipher.update(sealed.subarray(1 + NONCE_BYTES, tagAt));
  try {
    decipher.final();
  } catch (cause) {
    plaintext.fill(0);
    throw fail(SEAL_BYTES_REFUSED, `sealed bytes for '${aad}' do not open with this key`, { cause });
  }
  return plaintext;
}
