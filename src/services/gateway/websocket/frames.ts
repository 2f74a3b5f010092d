/** Frames of WebSocket as they are read (RFC 6455 5): strictly, since what one side takes and another does not is a way in. */
import { isUtf8 } from "node:buffer";

export const OPCODE = { continuation: 0x0, text: 0x1, binary: 0x2, close: 0x8, ping: 0x9, pong: 0xa } as const;

/** Codes of the closing handshake (RFC 6455 7.4.1, and those that were registered since). */
export const CLOSE = {
  normal: 1000,
  goingAway: 1001,
  protocol: 1002,
  unacceptable: 1003,
  invalidText: 1007,
  policy: 1008,
  tooLarge: 1009,
  internal: 1011,
  tryAgain: 1013,
} as const;

/** RFC 6455 5.5 */
export const CONTROL_BYTES_MAX = 125;

/** What the other side did wrong; `code` is what it is told. */
export class WebSocketFault extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

export interface FrameHandler {
  message(data: Buffer, isText: boolean): void;
  ping(data: Buffer): void;
  pong(data: Buffer): void;
  /** 1005 where no code came (RFC 6455 7.1.5). */
  close(code: number, reason: string): void;
}

export interface FrameOptions {
  /** Frames of a client are masked, those of a server are not (RFC 6455 5.1). */
  readonly masked: boolean;
  /** A larger message ends the connection with 1009. */
  readonly messageBytesMax: number;
  readonly handler: FrameHandler;
}

interface Header {
  readonly fin: boolean;
  readonly opcode: number;
  readonly length: number;
  readonly mask: Buffer | undefined;
}

const NONE = Buffer.alloc(0);

/** A message as it comes: one buffer that grows, since frames of one byte each would cost a hundred each. */
class Message {
  readonly isText: boolean;
  /** Announced by the frames so far. */
  announced = 0;
  /** Text that comes in parts is judged as it comes: what is wrong need not come to its end (RFC 6455 8.1). */
  utf8: TextDecoder | undefined;
  #bytes = NONE;
  #size = 0;

  constructor(isText: boolean) {
    this.isText = isText;
  }

  add(part: Buffer): void {
    const size = this.#size + part.length;
    if (size > this.#bytes.length) {
      const larger = Buffer.allocUnsafeSlow(this.#size === 0 ? size : size * 2);
      this.#bytes.copy(larger, 0, 0, this.#size);
      this.#bytes = larger;
    }
    this.#bytes.set(part, this.#size);
    this.#size = size;
  }

  get data(): Buffer {
    return this.#bytes.subarray(0, this.#size);
  }
}

export class FrameReader {
  readonly #o: FrameOptions;
  #held: Buffer = NONE;
  #frame: Header | undefined;
  /** Bytes of the frame's payload that have come. */
  #seen = 0;
  /** Of the control frame under way: it may come between the frames of a message (RFC 6455 5.4). */
  #control: Buffer[] = [];
  #message: Message | undefined;
  #closed = false;

  constructor(options: FrameOptions) {
    this.#o = options;
  }

  /** Takes the next bytes; throws the WebSocketFault that ends the connection. What comes after a close is not looked at. */
  feed(chunk: Buffer): void {
    let bytes = this.#held.length > 0 ? Buffer.concat([this.#held, chunk]) : chunk;
    this.#held = NONE;
    while (!this.#closed) {
      if (!this.#frame) {
        const size = headerSize(bytes);
        if (size === undefined || bytes.length < size) break;
        this.#begin(readHeader(bytes, this.#o.masked));
        bytes = bytes.subarray(size);
      }
      const { length } = this.#frame!;
      const part = bytes.subarray(0, length - this.#seen);
      bytes = bytes.subarray(part.length);
      this.#take(part);
      if (this.#seen < length) break;
      this.#end();
    }
    this.#held = this.#closed ? NONE : bytes;
  }

  #begin(frame: Header): void {
    this.#frame = frame;
    this.#seen = 0;
    const { opcode, length } = frame;
    if (opcode >= OPCODE.close) return;
    // RFC 6455 5.4
    if (opcode === OPCODE.continuation && !this.#message) throw protocol("a continuation of no message");
    if (opcode !== OPCODE.continuation && this.#message) throw protocol("a new message within another");
    this.#message ??= new Message(opcode === OPCODE.text);
    this.#message.announced += length;
    if (this.#message.announced > this.#o.messageBytesMax)
      throw new WebSocketFault(CLOSE.tooLarge, `a message has more than ${this.#o.messageBytesMax} bytes`);
  }

  #take(part: Buffer): void {
    const { opcode, mask } = this.#frame!;
    const from = this.#seen;
    this.#seen += part.length;
    if (part.length === 0) return;
    const bytes = Buffer.from(part);
    if (mask) unmask(bytes, mask, from);
    if (opcode >= OPCODE.close) return void this.#control.push(bytes);
    const message = this.#message!;
    message.add(bytes);
    if (!message.isText || (!message.utf8 && this.#isWhole)) return;
    message.utf8 ??= new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    judge(() => message.utf8!.decode(bytes, { stream: true }));
  }

  /** The one frame of a message has come at once: its text is judged at once. */
  get #isWhole(): boolean {
    const { fin, length } = this.#frame!;
    return fin && this.#seen === length && this.#message!.announced === length;
  }

  #end(): void {
    const { fin, opcode } = this.#frame!;
    if (opcode >= OPCODE.close) this.#endControl(opcode);
    else if (fin) this.#endMessage();
    this.#frame = undefined;
  }

  #endMessage(): void {
    const { isText, utf8, data } = this.#message!;
    if (isText) judge(utf8 ? () => utf8.decode() : () => isUtf8(data) || refuse());
    this.#message = undefined;
    this.#o.handler.message(data, isText);
  }

  #endControl(opcode: number): void {
    const data = Buffer.concat(this.#control);
    this.#control = [];
    const { handler } = this.#o;
    if (opcode === OPCODE.ping) return handler.ping(data);
    if (opcode === OPCODE.pong) return handler.pong(data);
    this.#closed = true;
    if (data.length === 0) return handler.close(1005, "");
    // RFC 6455 5.5.1
    if (data.length === 1) throw protocol("a close with half a code");
    const code = data.readUInt16BE(0);
    if (!isCode(code)) throw protocol(`the code ${code} does not go over the wire`);
    const reason = data.subarray(2);
    if (!isUtf8(reason)) throw invalidText();
    handler.close(code, reason.toString());
  }
}

/** RFC 6455 7.4: the codes that may be sent. */
const isCode = (code: number): boolean =>
  (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) || (code >= 3000 && code <= 4999);

const protocol = (message: string) => new WebSocketFault(CLOSE.protocol, message);
const invalidText = () => new WebSocketFault(CLOSE.invalidText, "a text is not UTF-8");
const refuse = (): never => {
  throw invalidText();
};

function judge(read: () => unknown): void {
  try {
    read();
  } catch {
    throw invalidText();
  }
}

/** The bytes of a frame's header; undefined where not even that can be told yet. */
function headerSize(bytes: Buffer): number | undefined {
  if (bytes.length < 2) return undefined;
  const length = bytes[1] & 0x7f;
  return 2 + (length === 127 ? 8 : length === 126 ? 2 : 0) + ((bytes[1] & 0x80) === 0 ? 0 : 4);
}

/** RFC 6455 5.2, clause by clause. */
function readHeader(bytes: Buffer, masked: boolean): Header {
  const [first, second] = bytes;
  if ((first & 0x70) !== 0) throw protocol("a reserved bit is set, and no extension was agreed on");
  const fin = (first & 0x80) !== 0;
  const opcode = first & 0x0f;
  if ((opcode > OPCODE.binary && opcode < OPCODE.close) || opcode > OPCODE.pong)
    throw protocol(`the opcode ${opcode} is reserved`);
  if (((second & 0x80) !== 0) !== masked) throw protocol(masked ? "a frame is not masked" : "a frame is masked");
  const { length, size } = readLength(bytes, second & 0x7f);
  // RFC 6455 5.5
  if (opcode >= OPCODE.close && (!fin || length > CONTROL_BYTES_MAX))
    throw protocol("a control frame is in parts, or has more than 125 bytes");
  return { fin, opcode, length, mask: masked ? Buffer.from(bytes.subarray(size, size + 4)) : undefined };
}

function readLength(bytes: Buffer, short: number): { length: number; size: number } {
  if (short < 126) return { length: short, size: 2 };
  const length = short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  if (bytes[2] >= 0x80 && short === 127) throw protocol("the first bit of a length is set");
  if (length <= (short === 126 ? 125 : 0xffff)) throw protocol("a length is not in its shortest form");
  return { length, size: short === 126 ? 4 : 10 };
}

/** RFC 6455 5.3; `from` is the place of the first byte in its payload. */
function unmask(bytes: Buffer, mask: Buffer, from: number): void {
  for (let i = 0; i < bytes.length; i++) bytes[i] ^= mask[(from + i) & 3];
}

/** Writes a frame of a server: whole, and not masked (RFC 6455 5.1). */
export function writeFrame(opcode: number, data: Uint8Array): Buffer {
  const { length } = data;
  const size = length < 126 ? 2 : length < 0x1_0000 ? 4 : 10;
  const frame = Buffer.allocUnsafe(size + length);
  frame[0] = 0x80 | opcode;
  frame[1] = size === 2 ? length : size === 4 ? 126 : 127;
  if (size === 4) frame.writeUInt16BE(length, 2);
  if (size === 10) frame.writeBigUInt64BE(BigInt(length), 2);
  frame.set(data, size);
  return frame;
}

/** The payload of a close: a code, and a reason of at most 123 bytes. */
export function closePayload(code: number, reason: string): Buffer {
  const text = Buffer.from(reason).subarray(0, CONTROL_BYTES_MAX - 2);
  // Cut at a letter, not within one.
  const fit = isUtf8(text) ? text : Buffer.from(text.toString().replace(/\ufffd+$/, ""));
  const payload = Buffer.allocUnsafe(2 + fit.length);
  payload.writeUInt16BE(code);
  payload.set(fit, 2);
  return payload;
}
