/** NATS' credentials files: a user's token, and the key that proves it is his. */
import { createPrivateKey, sign } from "node:crypto";

const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/** Of an Ed25519 private key in PKCS #8 (RFC 8410 7), what stands before its 32 bytes. */
const PKCS8_HEAD = Buffer.from("302e020100300506032b657004220420", "hex");

/** Reads a .creds file and signs the server's nonce with its seed (an nkey: two bytes of kind, 32 of seed, two of checksum). */
export function credentials(file: string, nonce: string): { jwt: string; sig: string } {
  const [jwt, seed] = [...file.matchAll(/-----BEGIN [A-Z ]+-----\s+([\w.-]+)\s+-+END/g)].map(([, text]) => text);
  const bytes = decodeBase32(seed ?? "");
  if (jwt === undefined || bytes.length !== 36) throw new Error("the credentials file has no user JWT and seed");
  const key = createPrivateKey({
    key: Buffer.concat([PKCS8_HEAD, bytes.subarray(2, 34)]),
    format: "der",
    type: "pkcs8",
  });
  return { jwt, sig: sign(null, Buffer.from(nonce), key).toString("base64url") };
}

function decodeBase32(text: string): Buffer {
  let [bits, value] = [0, 0];
  const bytes: number[] = [];
  for (const character of text) {
    value = (value << 5) | BASE32.indexOf(character);
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push((value >>> bits) & 0xff);
  }
  return Buffer.from(bytes);
}
