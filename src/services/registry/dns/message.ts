/** DNS messages (RFC 1035 4), as far as a small authoritative server needs them: one question read, records written. */

export const TYPE = { a: 1, soa: 6, aaaa: 28, srv: 33, opt: 41, any: 255 } as const;
export const RCODE = { fine: 0, malformed: 1, nameUnknown: 3, notImplemented: 4, refused: 5 } as const;
type Rcode = (typeof RCODE)[keyof typeof RCODE];

const HEADER_BYTES = 12;
const LABEL_BYTES_MAX = 63;
const NAME_BYTES_MAX = 255;
/** Without EDNS an answer over UDP has at most this (RFC 1035 2.3.4). */
const UDP_BYTES = 512;
/** With EDNS, as much as a packet that is not cut to pieces holds (RFC 9715). */
const UDP_BYTES_MAX = 1_232;
export const TCP_BYTES_MAX = 65_535;
const FLAG = { response: 0x8000, authoritative: 0x0400, truncated: 0x0200, recursionDesired: 0x0100 };
const OPCODE = 0x7800;
const CLASS_IN = 1;
const CLASS_ANY = 255;
/** A name that was written before, at the question (RFC 1035 4.1.4). */
const AT_QUESTION = 0xc000 | HEADER_BYTES;

export interface Question {
  readonly id: number;
  /** In lower case, without the last dot. */
  readonly name: string;
  readonly type: number;
  /** What the asker's UDP takes. */
  readonly udpBytes: number;
  readonly hasEdns: boolean;
  readonly recursionDesired: boolean;
  /** As it was asked: upper and lower case are given back (draft-vixie-dnsext-dns0x20). */
  readonly raw: Uint8Array;
}

/** Either a question, or why there is none: an answer with this code, or none at all. */
export type Read = Question | { readonly id: number; readonly rcode: Rcode } | undefined;

/** Reads a query; undefined for what must not be answered (an answer, or no message at all). */
export function readQuery(packet: Buffer): Read {
  if (packet.length < HEADER_BYTES) return undefined;
  const id = packet.readUInt16BE(0);
  const flags = packet.readUInt16BE(2);
  if ((flags & FLAG.response) !== 0) return undefined;
  if ((flags & OPCODE) !== 0) return { id, rcode: RCODE.notImplemented };
  const read = packet.readUInt16BE(4) === 1 ? readName(packet, HEADER_BYTES) : undefined;
  if (!read || read.end + 4 > packet.length) return { id, rcode: RCODE.malformed };
  const { name, end } = read;
  const wanted = packet.readUInt16BE(end + 2);
  if (wanted !== CLASS_IN && wanted !== CLASS_ANY) return { id, rcode: RCODE.refused };
  const edns = readEdns(packet, end + 4);
  return {
    id,
    name,
    type: packet.readUInt16BE(end),
    udpBytes: Math.min(UDP_BYTES_MAX, Math.max(UDP_BYTES, edns ?? UDP_BYTES)),
    hasEdns: edns !== undefined,
    recursionDesired: (flags & FLAG.recursionDesired) !== 0,
    raw: packet.subarray(HEADER_BYTES, end + 4),
  };
}

/** Reads a name of labels; a question's is written out, so a pointer is malformed here. */
function readName(packet: Buffer, start: number): { name: string; end: number } | undefined {
  const labels: string[] = [];
  let at = start;
  for (;;) {
    const length = packet[at];
    if (length === undefined || length > LABEL_BYTES_MAX || at - start > NAME_BYTES_MAX) return undefined;
    if (length === 0) return { name: labels.join(".").toLowerCase(), end: at + 1 };
    if (at + 1 + length > packet.length) return undefined;
    labels.push(packet.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
}

/** The UDP size of the asker (RFC 6891 6.1.2), where the record after the question says so. */
function readEdns(packet: Buffer, at: number): number | undefined {
  const isAlone = packet.readUInt16BE(6) === 0 && packet.readUInt16BE(8) === 0 && packet.readUInt16BE(10) > 0;
  if (!isAlone || packet.length < at + 11 || packet[at] !== 0 || packet.readUInt16BE(at + 1) !== TYPE.opt)
    return undefined;
  return packet.readUInt16BE(at + 3);
}

export interface Resource {
  readonly type: number;
  /** Absent: the name that was asked for. */
  readonly name?: string;
  readonly data: Buffer;
}

export interface Answer {
  readonly rcode: Rcode;
  readonly answers: readonly Resource[];
  readonly authority?: readonly Resource[];
  /** Left out where there is no room. */
  readonly additional?: readonly Resource[];
}

/** Writes an answer of at most `bytesMax`; one that does not fit is marked as cut, and is asked again over TCP. */
export function writeAnswer(question: Question, answer: Answer, bytesMax: number): Buffer {
  const edns = question.hasEdns ? writeEdns() : Buffer.alloc(0);
  const fixed = HEADER_BYTES + question.raw.length + edns.length;
  const answers = answer.answers.map(writeResource);
  const authority = (answer.authority ?? []).map(writeResource);
  const additional = (answer.additional ?? []).map(writeResource);
  const room = bytesMax - fixed;
  const isCut = sizeOf([...answers, ...authority]) > room;
  // What is cut is asked for again: part of it is of no use.
  const parts = isCut ? [] : [...answers, ...authority];
  const extras = !isCut && sizeOf([...parts, ...additional]) <= room ? additional : [];
  const header = Buffer.alloc(HEADER_BYTES);
  const flags = FLAG.response | FLAG.authoritative | (isCut ? FLAG.truncated : 0) | answer.rcode;
  header.writeUInt16BE(question.id, 0);
  header.writeUInt16BE(flags | (question.recursionDesired ? FLAG.recursionDesired : 0), 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(isCut ? 0 : answers.length, 6);
  header.writeUInt16BE(isCut ? 0 : authority.length, 8);
  header.writeUInt16BE(extras.length + (question.hasEdns ? 1 : 0), 10);
  return Buffer.concat([header, question.raw, ...parts, ...extras, edns]);
}

/** Writes an answer that is a code alone. */
export function writeRefusal({ id, rcode }: { id: number; rcode: Rcode }): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(FLAG.response | rcode, 2);
  return header;
}

const sizeOf = (parts: readonly Buffer[]): number => parts.reduce((sum, part) => sum + part.length, 0);

function writeEdns(): Buffer {
  const record = Buffer.alloc(11);
  record.writeUInt16BE(TYPE.opt, 1);
  record.writeUInt16BE(UDP_BYTES_MAX, 3);
  return record;
}

/** Nothing of it may be cached: it is asked for from the memory of this machine, and is true now. */
const TTL_S = 0;

function writeResource({ type, name, data }: Resource): Buffer {
  const owner = name === undefined ? Buffer.of(AT_QUESTION >> 8, AT_QUESTION & 0xff) : writeName(name);
  const head = Buffer.alloc(10);
  head.writeUInt16BE(type, 0);
  head.writeUInt16BE(CLASS_IN, 2);
  head.writeUInt32BE(TTL_S, 4);
  head.writeUInt16BE(data.length, 8);
  return Buffer.concat([owner, head, data]);
}

/** Writes a name out; an empty one is the root. */
export function writeName(name: string): Buffer {
  const labels = name === "" ? [] : name.split(".").map((label) => Buffer.from(label, "latin1"));
  return Buffer.concat([...labels.flatMap((label) => [Buffer.of(label.length), label]), Buffer.of(0)]);
}

/** Data of an SRV record (RFC 2782); its target is written out, never compressed. */
export function srvData(priority: number, weight: number, port: number, target: string): Buffer {
  const numbers = Buffer.alloc(6);
  numbers.writeUInt16BE(priority, 0);
  numbers.writeUInt16BE(weight, 2);
  numbers.writeUInt16BE(port, 4);
  return Buffer.concat([numbers, writeName(target)]);
}

/** Data of the zone's SOA record (RFC 1035 3.3.13); what is not there may not be cached either. */
export function soaData(zone: string, serial: number): Buffer {
  const numbers = Buffer.alloc(20);
  numbers.writeUInt32BE(serial >>> 0, 0);
  return Buffer.concat([writeName(`ns.${zone}`), writeName(`hostmaster.${zone}`), numbers]);
}
