/** One request of HTTP/1.1, and its answer. */
import { TLSSocket } from "node:tls";
import type { Failure } from "../../../kernel/error.ts";
import type { Given, Head } from "../headers.ts";
import { holdForTurn } from "../turn.ts";
import type { BodyReader, Exchange, Switched } from "./exchange.ts";
import type { Http1Connection } from "./http1.ts";
import type { RequestHead } from "./request-parser.ts";

/** Of a body that nobody reads yet; beyond it the client waits, as long as it is being found out whether it may send it. */
const HELD_BYTES_MAX = 65_536;
/** Bodies up to this go out in one write with their head, and so in one TLS record. */
const JOINED_BYTES_MAX = 12_288;
/** Shorter ones are joined as text, which takes no buffer. */
const TEXT_BYTES_MAX = 1_024;
const CRLF = Buffer.from("\r\n");
const LAST_CHUNK = "0\r\n\r\n";

export class Http1Exchange implements Exchange {
  readonly #connection: Http1Connection;
  readonly #request: RequestHead;
  readonly method: string;
  readonly url: string;
  readonly expects: boolean;
  received: boolean;
  gone = false;
  finished = false;
  last = false;
  onClose: (() => void) | undefined;
  onFault: ((failure: Failure) => void) | undefined;
  onDrain: (() => void) | undefined;
  #reader: BodyReader | undefined;
  /** Body that came before anybody read it. */
  #held: Buffer[] | undefined;
  #heldBytes = 0;
  #begun = false;
  #given = false;
  #faulty = false;
  #proceeded = false;
  /** The answer's head, as long as it is not on its way. */
  #pending: string | undefined;
  #chunked = false;
  /** RFC 9110 6.4.1: to HEAD, and with 204 and 304, there is no body whatever the head says. */
  #bodyless = false;

  constructor(connection: Http1Connection, request: RequestHead) {
    this.#connection = connection;
    this.#request = request;
    this.method = request.method;
    this.url = request.url;
    const { head } = request.fields;
    this.received = !head.hasBody;
    this.expects = head.expects && head.hasBody;
  }

  get rawHeaders(): readonly string[] {
    return this.#request.fields.raw;
  }

  get address(): string {
    return this.#connection.address;
  }

  get client(): string {
    return this.#connection.client;
  }

  get tls(): TLSSocket | undefined {
    const { socket } = this.#connection;
    return socket instanceof TLSSocket ? socket : undefined;
  }

  get upgrades(): boolean {
    return this.method === "GET" && this.received && this.#request.fields.head.upgrades;
  }

  /** Nothing of the request is on its way any more. */
  get clean(): boolean {
    return this.received || (this.expects && !this.#proceeded);
  }

  get open(): boolean {
    return !this.#begun && !this.gone;
  }

  head(): Head {
    return this.#request.fields.head;
  }

  read(reader: BodyReader): void {
    this.#reader = reader;
    for (const chunk of this.#takeHeld()) reader.data(chunk);
    if (this.gone || this.#faulty) reader.broken();
    else if (this.received) reader.end();
  }

  proceed(): void {
    this.#proceeded = true;
    this.#connection.socket.write("HTTP/1.1 100 Continue\r\n\r\n", "latin1");
  }

  inform(status: number, headers: readonly string[]): void {
    // A client of HTTP/1.0 would take it for the answer.
    if (!this.open || this.#request.minor === "0") return;
    this.#connection.socket.write(`${this.#connection.front.writer.lines(status, headers)}\r\n`, "latin1");
  }

  begin(status: number, ours: readonly string[], given: Given, last: boolean): void {
    const { head } = this.#request.fields;
    this.last = last || head.closes || this.upgrades || !this.received || this.#connection.front.draining;
    this.#bodyless = this.method === "HEAD" || status === 204 || status === 304;
    this.#begun = true;
    this.#takeHeld();
    this.#pending = this.#connection.front.writer.head(status, ours, given);
    this.#chunked = !given.framed && !this.#bodyless;
  }

  flush(): void {
    if (this.#pending !== undefined) this.#connection.socket.write(this.#takeHead(), "latin1");
  }

  write(chunk: Buffer): boolean {
    if (this.gone) return true;
    if (this.#bodyless || chunk.length === 0) return true;
    return this.#send(chunk, false);
  }

  end(chunk?: Buffer): void {
    if (this.gone || this.#given) return;
    holdForTurn(this.#connection.socket);
    this.#given = true;
    const body = this.#bodyless || chunk?.length === 0 ? undefined : chunk;
    // All of it is there: its length is known.
    if (this.#pending !== undefined && this.#chunked) {
      this.#pending += `Content-Length: ${body?.length ?? 0}\r\n`;
      this.#chunked = false;
    }
    if (body) this.#send(body, true);
    else {
      const rest = (this.#pending === undefined ? "" : this.#takeHead()) + (this.#chunked ? this.#ending() : "");
      if (rest !== "") this.#connection.socket.write(rest, "latin1");
    }
    if (!this.#connection.socket.writableNeedDrain) this.#over(true);
  }

  destroy(): void {
    this.#connection.destroy();
  }

  switch(head: string): Switched {
    this.#begun = true;
    this.#connection.socket.write(head, "latin1");
    const switched = this.#connection.leave();
    this.#over(true, false);
    return switched;
  }

  /** A part of the body has come. */
  data(chunk: Buffer): void {
    if (this.#reader) return this.#reader.data(chunk);
    // Nobody wants it: the answer is given.
    if (this.#begun) return;
    (this.#held ??= []).push(chunk);
    this.#heldBytes += chunk.length;
    if (this.#heldBytes >= HELD_BYTES_MAX) this.#connection.socket.pause();
  }

  #takeHeld(): readonly Buffer[] {
    const held = this.#held ?? [];
    this.#held = undefined;
    if (this.#heldBytes >= HELD_BYTES_MAX) this.#connection.socket.resume();
    this.#heldBytes = 0;
    return held;
  }

  /** The body is all there. */
  ended(): void {
    this.received = true;
    this.#reader?.end();
  }

  /** More may be written. */
  drained(): void {
    if (this.#given) return this.#over(true);
    const { onDrain } = this;
    this.onDrain = undefined;
    onDrain?.();
  }

  /** What follows of the request is of no use. */
  fault(failure: Failure): void {
    this.#faulty = true;
    this.onFault?.(failure);
    this.#reader?.broken();
  }

  /** The client has gone. */
  lost(): void {
    if (this.finished || this.gone) return;
    this.gone = true;
    if (!this.received) this.#reader?.broken();
    this.drained();
    this.#over(false);
  }

  #over(finished: boolean, more = true): void {
    const { onClose } = this;
    this.finished ||= finished && !this.gone;
    this.onClose = undefined;
    onClose?.();
    if (this.finished && more) this.#connection.answered(this);
  }

  #takeHead(): string {
    const { minor } = this.#request;
    // RFC 9112 6.3: a client of HTTP/1.0 knows no chunks: the end of the connection is that of the body.
    if (this.#chunked && minor === "0") this.#chunked = false;
    const head = `${this.#pending}${this.#chunked ? "Transfer-Encoding: chunked\r\n" : ""}${this.last ? "Connection: close\r\n" : ""}\r\n`;
    this.#pending = undefined;
    return head;
  }

  #ending(): string {
    this.#chunked = false;
    return LAST_CHUNK;
  }

  /** Writes a part of the body with what goes around it. */
  #send(chunk: Buffer, ends: boolean): boolean {
    const { socket } = this.#connection;
    const head = this.#pending === undefined ? "" : this.#takeHead();
    const before = this.#chunked ? `${head}${chunk.length.toString(16)}\r\n` : head;
    const after = this.#chunked ? `\r\n${ends ? LAST_CHUNK : ""}` : "";
    if (chunk.length <= TEXT_BYTES_MAX) return socket.write(before + chunk.toString("latin1") + after, "latin1");
    if (before === "" && after === "") return socket.write(chunk);
    if (chunk.length <= JOINED_BYTES_MAX)
      return socket.write(Buffer.concat([Buffer.from(before, "latin1"), chunk, Buffer.from(after, "latin1")]));
    socket.cork();
    socket.write(before, "latin1");
    const more = socket.write(chunk);
    if (after !== "") socket.write(after === "\r\n" ? CRLF : Buffer.from(after, "latin1"));
    socket.uncork();
    return more;
  }
}
