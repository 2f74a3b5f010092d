/**
 * How records lie in a block: kind(1), key, payload length (varint), payload. A key is 0, length (varint), UTF-8 at its
 * first use in the block, and the number of that use (varint, from 1) afterwards: a topic costs one byte, not sixty.
 */
export interface Entry {
  readonly kind: number;
  readonly key: string;
  readonly payload: Uint8Array;
}

export interface JournalRecord extends Entry {
  /** 1, 2, 3, ...: a safe integer, never given out twice. */
  readonly position: number;
}

/** The least that a record takes: bounds how many records were in so many lost bytes. */
export const RECORD_BYTES_MIN = 3;

const PACKER_BYTES_MIN = 512;

/** Bounds the bytes that an entry may take in a block (3 bytes of UTF-8 per UTF-16 unit, three varints, kind). */
export const packedBytesMax = (entry: Entry): number => entry.payload.byteLength + entry.key.length * 3 + 16;

/** Packs records behind each other into one growing buffer; copies the payload, so that the caller may reuse his. */
export class Packer {
  #buffer: Buffer;
  #used = 0;
  #count = 0;
  #keys = new Map<string, number>();

  constructor(bytes: number) {
    this.#buffer = Buffer.allocUnsafeSlow(Math.max(bytes, PACKER_BYTES_MIN));
  }

  get usedBytes(): number {
    return this.#used;
  }
  get count(): number {
    return this.#count;
  }
  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#used);
  }

  add(entry: Entry): void {
    const needed = this.#used + packedBytesMax(entry);
    if (needed > this.#buffer.byteLength) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.byteLength * 2));
      larger.set(this.bytes);
      this.#buffer = larger;
    }
    const buffer = this.#buffer;
    let at = this.#used;
    buffer[at++] = entry.kind;
    const known = this.#keys.get(entry.key);
    if (known !== undefined) at = writeVarint(buffer, at, known);
    else {
      this.#keys.set(entry.key, this.#keys.size + 1);
      buffer[at++] = 0;
      at = writeVarint(buffer, at, Buffer.byteLength(entry.key));
      at += buffer.write(entry.key, at);
    }
    at = writeVarint(buffer, at, entry.payload.byteLength);
    buffer.set(entry.payload, at);
    this.#used = at + entry.payload.byteLength;
    this.#count++;
  }
}

function writeVarint(buffer: Buffer, at: number, value: number): number {
  while (value > 0x7f) {
    buffer[at++] = (value & 0x7f) | 0x80;
    value >>>= 7;
  }
  buffer[at++] = value;
  return at;
}

export interface UnpackLimits {
  /** First position wanted; earlier ones are stepped over. */
  from: number;
  bytesLeft: number;
  recordsLeft: number;
  readonly match?: ((kind: number, key: string) => boolean) | undefined;
}

/**
 * Unpacks the records of an opened block into `into` until a limit is used up, and answers the position of the first record that
 * it did not look at. Asks `match` once for each pair of kind and key. Payloads are views of `body`, not copies.
 */
export function unpack(
  body: Buffer,
  first: number,
  count: number,
  limits: UnpackLimits,
  into: JournalRecord[],
): number {
  const keys: string[] = [];
  const verdicts = new Map<number, boolean>();
  const { buffer: memory, byteOffset: base } = body;
  let at = 0;
  const varint = (): number => {
    let byte = body[at++] ?? 0;
    let value = byte & 0x7f;
    for (let shift = 7; byte > 0x7f; shift += 7) {
      byte = body[at++] ?? 0;
      value |= (byte & 0x7f) << shift;
    }
    return value;
  };
  const end = first + count;
  for (let position = first; position < end; position++) {
    if (limits.bytesLeft <= 0 || limits.recordsLeft <= 0) return position;
    const kind = body[at++] ?? 0;
    let reference = varint();
    if (reference === 0) {
      const bytes = varint();
      keys.push(body.toString("utf8", at, at + bytes));
      at += bytes;
      reference = keys.length;
    }
    const payloadBytes = varint();
    const payloadAt = at;
    at += payloadBytes;
    if (position < limits.from) continue;
    const key = keys[reference - 1] ?? "";
    if (limits.match) {
      let verdict = verdicts.get(reference * 256 + kind);
      if (verdict === undefined) verdicts.set(reference * 256 + kind, (verdict = limits.match(kind, key)));
      if (!verdict) continue;
    }
    into.push({ position, kind, key, payload: new Uint8Array(memory, base + payloadAt, payloadBytes) });
    limits.bytesLeft -= payloadBytes + key.length;
    limits.recordsLeft--;
  }
  return end;
}
