/** The little of DER (X.690) that certificates need: writing, and reading that takes nothing on trust. */

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8: 0x0c,
  printable: 0x13,
  utcTime: 0x17,
  time: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;
/** Tag of a context-specific constructed value, as in `[0] EXPLICIT`. */
export const context = (number: number): number => 0xa0 | number;

export const ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2";

/** Writes DER as PEM, lines of 64 (RFC 7468). */
export function pem(label: string, bytes: Buffer): string {
  const lines = bytes.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

/** Writes one value: tag, length, contents one after the other. */
export function der(tag: number, ...contents: Uint8Array[]): Buffer {
  const length = contents.reduce((sum, part) => sum + part.length, 0);
  const bytes: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  const head = length < 128 ? [tag, length] : [tag, 0x80 | bytes.length, ...bytes];
  return Buffer.concat([Buffer.from(head), ...contents]);
}

/** Writes an object identifier given as "1.2.840...". */
export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const bytes: number[] = [];
  for (const arc of [first * 40 + second, ...rest]) {
    const groups = [arc % 128];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) groups.unshift(0x80 | (left % 128));
    bytes.push(...groups);
  }
  return der(TAG.oid, Buffer.from(bytes));
}

/** One value that was read: `whole` with its head, `contents` without. */
export interface DerValue {
  readonly tag: number;
  readonly whole: Buffer;
  readonly contents: Buffer;
}

/** Reads the values that fill `bytes` exactly; undefined if anything is not DER: a long tag, an endless or needlessly long length, a rest. */
export function readDer(bytes: Buffer): DerValue[] | undefined {
  const values: DerValue[] = [];
  for (let at = 0; at < bytes.length;) {
    const tag = bytes[at] ?? 0;
    let length = bytes[at + 1];
    let start = at + 2;
    if ((tag & 0x1f) === 0x1f || length === undefined) return undefined;
    if (length >= 0x80) {
      const size = length & 0x7f;
      // 3 bytes of length are 16 MiB, a thousand times the largest certificate; none at all would be BER's endless form.
      if (size < 1 || size > 3 || start + size > bytes.length) return undefined;
      length = bytes.readUIntBE(start, size);
      start += size;
      if (length < 0x80 || length < 2 ** (8 * (size - 1))) return undefined;
    }
    if (start + length > bytes.length) return undefined;
    values.push({ tag, whole: bytes.subarray(at, start + length), contents: bytes.subarray(start, start + length) });
    at = start + length;
  }
  return values;
}
