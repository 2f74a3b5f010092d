/**
 * Reads HTTP/1.1 answers (RFC 9112) of our own services from the bytes of a connection: one request at a time, strict, with
 * raw header arrays. What is not exactly framed is an error, and the connection's end.
 */

import { splitFields } from "./fields.ts";

interface Headers {
  /** Name, value, name, value, ... */
  readonly headers: readonly string[];
}

/** `Said` is what is made of an answer's headers, once for all answers with the same. */
export interface AnswerEvents<Said extends Headers> {
  said(headers: readonly string[]): Said;
  /** RFC 9110 15.2: comes before the answer, any number of times. */
  interim(status: number, headers: readonly string[]): void;
  /** `length` is that of Content-Length; undefined where the framing is another one. */
  head(status: number, said: Said, length: number | undefined): void;
  data(chunk: Buffer): void;
  end(): void;
}

/** A head above this is no answer of ours. */
const HEAD_BYTES_MAX = 65_536;
const LINE_BYTES_MAX = 4_096;
/** Interim answers before one that counts. */
const INTERIM_MAX = 16;
const STATUS_LINE = /^HTTP\/1\.([01]) ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?$/;
const FIELDS = /^(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*$/;
const HEX_SIZE = /^([0-9A-Fa-f]{1,8})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?$/;
const END_OF_HEAD = Buffer.from("\r\n\r\n");
const CR = 13;
const LF = 10;

type State = "idle" | "head" | "length" | "close" | "size" | "chunk" | "chunk-end" | "trailers";

/** What the head of an answer says. */
interface Head<Said extends Headers> {
  readonly text: string;
  readonly status: number;
  readonly said: Said;
  readonly length: number | undefined;
  readonly chunked: boolean;
  readonly keepAlive: boolean;
}

export class AnswerError extends Error {}

export class AnswerParser<Said extends Headers> {
  readonly #events: AnswerEvents<Said>;
  #state: State = "idle";
  #bodyless = false;
  #held: Buffer | undefined;
  #left = 0;
  #keepAlive = true;
  #interim = 0;
  /** The head before this one: services say the same again and again. */
  #former: Head<Said> | undefined;

  constructor(events: AnswerEvents<Said>) {
    this.#events = events;
  }

  /** Expects the answer of a request that was sent; `bodyless`: of HEAD. */
  begin(bodyless = false): void {
    this.#state = "head";
    this.#interim = 0;
    this.#bodyless = bodyless;
  }

  /** True between answers, where the connection may be used again. */
  get reusable(): boolean {
    return this.#state === "idle" && this.#keepAlive && this.#held === undefined;
  }

  /** Takes what came, and keeps nothing of the buffer it came in; throws AnswerError at what is no answer. */
  feed(chunk: Buffer): void {
    let rest: Buffer | undefined = this.#held ? Buffer.concat([this.#held, chunk]) : chunk;
    this.#held = undefined;
    while (rest !== undefined && rest.length > 0) rest = this.#step(rest);
  }

  /** Told that the other side has ended: that ends an answer without length. False where something is missing. */
  close(): boolean {
    if (this.#state === "close") this.#finish();
    return this.#state === "idle";
  }

  #step(bytes: Buffer): Buffer | undefined {
    switch (this.#state) {
      case "idle":
        throw new AnswerError("bytes came that nobody asked for");
      case "head":
        return this.#head(bytes);
      case "length":
        return this.#body(bytes, "idle");
      case "chunk":
        return this.#body(bytes, "chunk-end");
      case "close":
        this.#events.data(Buffer.from(bytes));
        return undefined;
      default:
        return this.#line(bytes);
    }
  }

  #head(bytes: Buffer): Buffer | undefined {
    const at = bytes.indexOf(END_OF_HEAD);
    if (at < 0) {
      if (bytes.length > HEAD_BYTES_MAX) throw new AnswerError("the head is too large");
      this.#held = Buffer.from(bytes);
      return undefined;
    }
    const text = bytes.toString("latin1", 0, at + 2);
    const head =
      this.#former?.text === text
        ? this.#former
        : (this.#former = readHead(text, (headers) => this.#events.said(headers)));
    const rest = bytes.length > at + 4 ? bytes.subarray(at + 4) : undefined;
    if (head.status === 101) throw new AnswerError("nobody asked to switch protocols");
    if (head.status < 200) {
      if (++this.#interim > INTERIM_MAX) throw new AnswerError("more interim answers came than anybody needs");
      this.#events.interim(head.status, head.said.headers);
      return rest;
    }
    this.#begin(head);
    return rest;
  }

  /** RFC 9112 6.3: how the body's end is told. */
  #begin({ status, said, length, chunked, keepAlive }: Head<Said>): void {
    const none = this.#bodyless || status === 204 || status === 304;
    this.#keepAlive = keepAlive;
    this.#left = length ?? 0;
    this.#state = chunked ? "size" : length === undefined ? "close" : "length";
    if (this.#state === "close") this.#keepAlive &&= none;
    this.#events.head(status, said, none ? 0 : length);
    if (none || (this.#state === "length" && this.#left === 0)) this.#finish();
  }

  #body(bytes: Buffer, then: "idle" | "chunk-end"): Buffer | undefined {
    const part = bytes.length > this.#left ? bytes.subarray(0, this.#left) : bytes;
    this.#left -= part.length;
    this.#events.data(Buffer.from(part));
    if (this.#left === 0) {
      if (then === "idle") this.#finish();
      else this.#state = then;
    }
    return bytes.length > part.length ? bytes.subarray(part.length) : undefined;
  }

  /** A line between chunks: a size, the end of a chunk, a trailer. */
  #line(bytes: Buffer): Buffer | undefined {
    const at = bytes.indexOf(LF);
    if (at < 0) {
      if (bytes.length > LINE_BYTES_MAX) throw new AnswerError("a line between chunks is too long");
      this.#held = Buffer.from(bytes);
      return undefined;
    }
    if (at === 0 || bytes[at - 1] !== CR) throw new AnswerError("a line between chunks does not end in CRLF");
    const line = bytes.toString("latin1", 0, at - 1);
    if (this.#state === "chunk-end") {
      if (line !== "") throw new AnswerError("a chunk is longer than it said");
      this.#state = "size";
    } else if (this.#state === "size") {
      const size = HEX_SIZE.exec(line);
      if (!size) throw new AnswerError("a chunk's size is malformed");
      this.#left = Number.parseInt(size[1], 16);
      this.#state = this.#left === 0 ? "trailers" : "chunk";
    } else if (line === "") this.#finish();
    return bytes.subarray(at + 1);
  }

  #finish(): void {
    this.#state = "idle";
    this.#events.end();
  }
}

function readHead<Said extends Headers>(text: string, say: (headers: readonly string[]) => Said): Head<Said> {
  const end = text.indexOf("\r\n");
  const start = STATUS_LINE.exec(text.slice(0, end));
  if (!start) throw new AnswerError("the status line is malformed");
  const fields = text.slice(end + 2);
  if (!FIELDS.test(fields)) throw new AnswerError("a header line is malformed");
  const headers = splitFields(fields);
  return { text, status: Number(start[2]), said: say(headers), ...framing(headers, start[1] === "1") };
}

function framing(headers: readonly string[], persistent: boolean) {
  let length: number | undefined;
  let chunked = false;
  let keepAlive = persistent;
  for (let i = 0; i < headers.length; i += 2) {
    const value = headers[i + 1];
    switch (headers[i].toLowerCase()) {
      case "content-length":
        if (length !== undefined || !/^[0-9]{1,15}$/.test(value))
          throw new AnswerError("Content-Length is malformed or there twice");
        length = Number(value);
        break;
      case "transfer-encoding":
        if (chunked || value.toLowerCase() !== "chunked") throw new AnswerError("Transfer-Encoding is not 'chunked'");
        chunked = true;
        break;
      case "connection":
        if (/(?:^|,)[\t ]*close[\t ]*(?:,|$)/i.test(value)) keepAlive = false;
        break;
    }
  }
  if (chunked && length !== undefined) throw new AnswerError("both Content-Length and Transfer-Encoding are there");
  return { length, chunked, keepAlive };
}
