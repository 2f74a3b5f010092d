/**
 * Reads HTTP/1.1 requests (RFC 9112) from the bytes of a client's connection, one at a time. What two readers could
 * take for two things is refused: nothing is repaired, nothing skipped.
 */
import { METHODS } from "node:http";
import { fail } from "../../../kernel/error.ts";
import { GATEWAY_HEADERS_TOO_LARGE, GATEWAY_METHOD_REFUSED, GATEWAY_REQUEST_REFUSED } from "../api.ts";
import { splitFields } from "../../../kernel/http/fields.ts";
import { type Head, isSingle, readHead } from "../headers.ts";

export interface RequestHead {
  readonly method: string;
  readonly url: string;
  /** Of HTTP/1. */
  readonly minor: string;
  readonly fields: Fields;
}

/** The header lines of a request, read. */
export interface Fields {
  /** Name, value, name, value, as they came. */
  readonly raw: readonly string[];
  readonly head: Head;
}

export interface RequestEvents {
  head(request: RequestHead): void;
  data(chunk: Buffer): void;
  end(): void;
}

/** A chunk's size with its extensions (RFC 9112 7.1.1), and a line of the trailer. */
const LINE_BYTES_MAX = 4_096;
const START_LINE = /^([A-Z][A-Z-]{0,31}) ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP\/1\.([01])$/;
/** RFC 9110 5.1, 5.5: a name is a token, its colon follows at once, and the value has no control character but HTAB. */
const FIELDS = /^(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*$/;
const CHUNK_SIZE = /^([0-9A-Fa-f]{1,8})(?:;[\t\x20-\x7e\x80-\xff]*)?$/;
const BARE_LINE_FEED = /(?:^|[^\r])\n/;
/** Each by itself: of a request we go on with our own copy of its name, which comparing costs nothing. */
const KNOWN_METHODS: ReadonlyMap<string, string> = new Map(METHODS.map((method) => [method, method]));
const END_OF_HEAD = Buffer.from("\r\n\r\n");
const CR = 13;
const LF = 10;

type State = "head" | "length" | "size" | "chunk" | "chunk-end" | "trailers" | "done";

const malformed = (what: string) => fail(GATEWAY_REQUEST_REFUSED, `the request is not well-formed HTTP/1.1: ${what}`);

export class RequestParser {
  readonly #events: RequestEvents;
  readonly #headBytesMax: number;
  #state: State = "head";
  #held: Buffer | undefined;
  #left = 0;
  #trailerBytes = 0;
  /** The header lines of the request before: clients say the same again and again. */
  #text = "";
  #version = "";
  #fields: Fields | undefined;

  constructor(events: RequestEvents, headBytesMax: number) {
    this.#events = events;
    this.#headBytesMax = headBytesMax;
  }

  /** Expects the next request. */
  begin(): void {
    this.#state = "head";
  }

  /** True where a request has begun to come and is not all there. */
  get partial(): boolean {
    return this.#state === "head" ? this.#held !== undefined : this.#state !== "done";
  }

  /**
   * Takes what came and gives back what follows the request, once it is whole. GATEWAY_REQUEST_REFUSED,
   * GATEWAY_HEADERS_TOO_LARGE, GATEWAY_METHOD_REFUSED (CONNECT): after these the connection is of no use.
   */
  feed(chunk: Buffer): Buffer | undefined {
    let rest: Buffer | undefined = this.#held ? Buffer.concat([this.#held, chunk]) : chunk;
    this.#held = undefined;
    while (rest !== undefined && rest.length > 0 && this.#state !== "done") rest = this.#step(rest);
    return rest;
  }

  #step(bytes: Buffer): Buffer | undefined {
    switch (this.#state) {
      case "head":
        return this.#head(bytes);
      case "length":
      case "chunk":
        return this.#body(bytes);
      default:
        return this.#line(bytes);
    }
  }

  #head(given: Buffer): Buffer | undefined {
    let bytes = given;
    // RFC 9112 2.2: an empty line before a request is no part of it.
    while (bytes[0] === CR && bytes[1] === LF) bytes = bytes.subarray(2);
    const at = bytes.indexOf(END_OF_HEAD);
    if (at > this.#headBytesMax || (at < 0 && bytes.length > this.#headBytesMax))
      throw fail(
        GATEWAY_HEADERS_TOO_LARGE,
        `the URL and the headers have more than ${this.#headBytesMax} bytes together`,
      );
    if (at < 0) return this.#wait(bytes);
    const text = bytes.toString("latin1", 0, at + 2);
    const end = text.indexOf("\r\n");
    const start = START_LINE.exec(text.slice(0, end));
    if (!start) throw malformed("its first line is none");
    const [, , url, minor] = start;
    const method = KNOWN_METHODS.get(start[1]);
    if (method === undefined) throw malformed("nobody knows its method");
    // RFC 9110 9.3.6: what follows it would be no HTTP.
    if (method === "CONNECT") throw fail(GATEWAY_METHOD_REFUSED, "CONNECT is not a method of this server");
    const fields = this.#read(text.slice(end + 2), minor === "1" ? "1.1" : "1.0");
    const { hasBody, length } = fields.head;
    this.#left = length ?? 0;
    this.#state = hasBody ? (length === undefined ? "size" : "length") : "done";
    this.#trailerBytes = 0;
    this.#events.head({ method, url, minor, fields });
    return bytes.length > at + 4 ? bytes.subarray(at + 4) : undefined;
  }

  /** What is there of a head may tell already that it is none; else whoever sent it would wait for an answer. */
  #wait(bytes: Buffer): undefined {
    if (BARE_LINE_FEED.test(bytes.toString("latin1"))) throw malformed("a line does not end in CRLF");
    if (bytes.length > 0) this.#held = bytes;
  }

  #read(text: string, version: string): Fields {
    if (this.#fields && text === this.#text && version === this.#version) return this.#fields;
    if (!FIELDS.test(text)) throw malformed("a header line is none");
    const raw = splitFields(text);
    const fields = { raw, head: readHead(raw, version) };
    this.#text = text;
    this.#version = version;
    this.#fields = fields;
    return fields;
  }

  #body(bytes: Buffer): Buffer | undefined {
    const part = bytes.length > this.#left ? bytes.subarray(0, this.#left) : bytes;
    this.#left -= part.length;
    this.#events.data(part);
    if (this.#left === 0) {
      if (this.#state === "length") this.#finish();
      else this.#state = "chunk-end";
    }
    return bytes.length > part.length ? bytes.subarray(part.length) : undefined;
  }

  /** A line between chunks: a size, the end of a chunk, a trailer. */
  #line(bytes: Buffer): Buffer | undefined {
    const at = bytes.indexOf(LF);
    if (at > LINE_BYTES_MAX || (at < 0 && bytes.length > LINE_BYTES_MAX))
      throw malformed("a line between chunks is too long");
    if (at < 0) {
      this.#held = bytes;
      return undefined;
    }
    if (at === 0 || bytes[at - 1] !== CR) throw malformed("a line between chunks does not end in CRLF");
    const line = bytes.toString("latin1", 0, at - 1);
    if (this.#state === "chunk-end") {
      if (line !== "") throw malformed("a chunk is longer than it said");
      this.#state = "size";
    } else if (this.#state === "size") {
      const size = CHUNK_SIZE.exec(line);
      if (!size) throw malformed("a chunk's size is none");
      this.#left = Number.parseInt(size[1], 16);
      this.#state = this.#left === 0 ? "trailers" : "chunk";
    } else if (line === "") this.#finish();
    else this.#trailer(line);
    return bytes.length > at + 1 ? bytes.subarray(at + 1) : undefined;
  }

  /** RFC 9110 6.5.1: read, and thrown away; what frames or routes a message has no place there. */
  #trailer(line: string): void {
    this.#trailerBytes += line.length;
    if (this.#trailerBytes > this.#headBytesMax)
      throw fail(GATEWAY_HEADERS_TOO_LARGE, `the trailer has more than ${this.#headBytesMax} bytes`);
    if (!FIELDS.test(`${line}\r\n`) || isSingle(line.slice(0, line.indexOf(":")).toLowerCase()))
      throw malformed("a line of the trailer is none");
  }

  #finish(): void {
    this.#state = "done";
    this.#events.end();
  }
}
