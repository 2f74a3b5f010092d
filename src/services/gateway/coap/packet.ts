/** Messages of CoAP as they lie in a datagram (RFC 7252 3). */

export const TYPE = { confirmable: 0, nonConfirmable: 1, acknowledgement: 2, reset: 3 } as const;
export const EMPTY = 0;
const VERSION = 1;
const TOKEN_BYTES_MAX = 8;
const HEADER_BYTES = 4;
const END_OF_OPTIONS = 0xff;
/** More options than any honest request has; what has more is malformed. */
const OPTIONS_MAX = 64;

export interface Option {
  readonly number: number;
  readonly value: Buffer;
}

export interface Packet {
  readonly type: number;
  /** `class.detail`: 0x45 is 2.05. */
  readonly code: number;
  readonly id: number;
  readonly token: Buffer;
  /** In order of their numbers. */
  readonly options: readonly Option[];
  readonly payload: Buffer;
}

/** Format of a message that cannot be processed; with the id of what a Reset answers. */
export interface Malformed {
  readonly type: number;
  readonly id: number;
  readonly malformed: string;
}

/** Reads a datagram; undefined where it is no message of this version, which is passed over in silence (RFC 7252 3). */
export function readPacket(bytes: Buffer): Packet | Malformed | undefined {
  if (bytes.length < HEADER_BYTES || bytes[0] >> 6 !== VERSION) return undefined;
  const type = (bytes[0] >> 4) & 3;
  const tokenBytes = bytes[0] & 0x0f;
  const code = bytes[1];
  const id = bytes.readUInt16BE(2);
  const malformed = (why: string): Malformed => ({ type, id, malformed: why });
  const from = HEADER_BYTES + tokenBytes;
  if (tokenBytes > TOKEN_BYTES_MAX) return malformed("a token has at most 8 bytes");
  // RFC 7252 4.1
  if (code === EMPTY && bytes.length > HEADER_BYTES) return malformed("an empty message has four bytes");
  if (bytes.length < from) return malformed("the token is cut off");
  const read = readOptions(bytes, from);
  if (typeof read === "string") return malformed(read);
  return { type, code, id, token: Buffer.from(bytes.subarray(HEADER_BYTES, from)), ...read };
}

/** RFC 7252 3.1. */
function readOptions(bytes: Buffer, from: number): string | { options: Option[]; payload: Buffer } {
  const options: Option[] = [];
  let at = from;
  let number = 0;
  while (at < bytes.length && bytes[at] !== END_OF_OPTIONS) {
    const first = bytes[at++];
    const delta = extended(bytes, at, first >> 4);
    if (!delta) return "an option's number is cut off, or reserved";
    const length = extended(bytes, delta.at, first & 0x0f);
    if (!length) return "an option's length is cut off, or reserved";
    number += delta.value;
    at = length.at + length.value;
    if (at > bytes.length) return "an option is cut off";
    if (number > 0xffff || options.length >= OPTIONS_MAX) return "there are too many options";
    options.push({ number, value: Buffer.from(bytes.subarray(length.at, at)) });
  }
  if (at === bytes.length) return { options, payload: Buffer.alloc(0) };
  // A marker without a payload behind it.
  if (at + 1 === bytes.length) return "there is no payload behind its marker";
  return { options, payload: Buffer.from(bytes.subarray(at + 1)) };
}

function extended(bytes: Buffer, at: number, nibble: number): { value: number; at: number } | undefined {
  if (nibble < 13) return { value: nibble, at };
  if (nibble === 13 && at < bytes.length) return { value: bytes[at] + 13, at: at + 1 };
  if (nibble === 14 && at + 1 < bytes.length) return { value: bytes.readUInt16BE(at) + 269, at: at + 2 };
  return undefined;
}

/** Writes a message; its options in any order. */
export function writePacket({ type, code, id, token, options, payload }: Packet): Buffer {
  const head = Buffer.alloc(HEADER_BYTES);
  head[0] = (VERSION << 6) | (type << 4) | token.length;
  head[1] = code;
  head.writeUInt16BE(id, 2);
  const parts: Uint8Array[] = [head, token];
  let before = 0;
  for (const { number, value } of options.toSorted((a, b) => a.number - b.number)) {
    const delta = extension(number - before);
    const length = extension(value.length);
    parts.push(Buffer.from([(delta.nibble << 4) | length.nibble]), delta.bytes, length.bytes, value);
    before = number;
  }
  if (payload.length > 0) parts.push(Buffer.from([END_OF_OPTIONS]), payload);
  return Buffer.concat(parts);
}

function extension(value: number): { nibble: number; bytes: Buffer } {
  if (value < 13) return { nibble: value, bytes: Buffer.alloc(0) };
  if (value < 269) return { nibble: 13, bytes: Buffer.from([value - 13]) };
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value - 269);
  return { nibble: 14, bytes };
}

/** Reads an unsigned number of an option (RFC 7252 3.2); undefined where it has more bytes than `bytesMax`. */
export function uintOf(value: Buffer, bytesMax = 4): number | undefined {
  if (value.length > bytesMax) return undefined;
  return value.length === 0 ? 0 : value.readUIntBE(0, value.length);
}

/** Writes an unsigned number in as few bytes as it has. */
export function uintBytes(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  const at = bytes.findIndex((byte) => byte !== 0);
  return at < 0 ? Buffer.alloc(0) : bytes.subarray(at);
}
