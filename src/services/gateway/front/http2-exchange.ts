/** One request of HTTP/2, and its answer. */
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { TLSSocket } from "node:tls";
import type { Failure } from "../../../kernel/error.ts";
import { allOf, type Given, type Head, readHead } from "../headers.ts";
import { clientOf } from "../shape/limiter.ts";
import type { BodyReader, Exchange, Switched } from "./exchange.ts";

export interface Http2ExchangeOptions {
  readonly request: Http2ServerRequest;
  readonly response: Http2ServerResponse;
  /** The headers as those of HTTP/1.1. */
  readonly rawHeaders: readonly string[];
  readonly socket: TLSSocket;
  readonly expects: boolean;
}

export class Http2Exchange implements Exchange {
  readonly #request: Http2ServerRequest;
  readonly #response: Http2ServerResponse;
  readonly method: string;
  readonly url: string;
  readonly rawHeaders: readonly string[];
  readonly address: string;
  readonly client: string;
  readonly tls: TLSSocket;
  readonly expects: boolean;
  /** RFC 9113 8.6: there is no upgrade. */
  readonly upgrades = false;
  onClose: (() => void) | undefined;
  onFault: ((failure: Failure) => void) | undefined;
  onDrain: (() => void) | undefined;

  constructor({ request, response, rawHeaders, socket, expects }: Http2ExchangeOptions) {
    this.#request = request;
    this.#response = response;
    this.method = request.method;
    this.url = request.url;
    this.rawHeaders = rawHeaders;
    this.address = socket.remoteAddress ?? "";
    this.client = clientOf(this.address);
    this.tls = socket;
    this.expects = expects;
    response.on("drain", () => this.#drained());
    response.once("close", () => {
      this.#drained();
      this.onClose?.();
    });
  }

  get received(): boolean {
    const { stream } = this.#request;
    return stream.endAfterHeaders || this.#request.readableEnded || stream.destroyed;
  }

  get open(): boolean {
    return !this.#response.headersSent && !this.#request.stream.destroyed;
  }

  get finished(): boolean {
    return this.#response.writableFinished;
  }

  get gone(): boolean {
    return this.#request.stream.destroyed && !this.finished;
  }

  head(): Head {
    return readHead(this.rawHeaders, "1.1");
  }

  read(reader: BodyReader): void {
    const request = this.#request;
    request.on("data", (chunk: Buffer) => reader.data(chunk));
    request.on("end", () => reader.end());
    request.on("close", () => !request.readableEnded && reader.broken());
  }

  proceed(): void {
    this.#response.writeContinue();
  }

  inform(status: number, headers: readonly string[]): void {
    if (!this.open) return;
    const fields: Record<string, string | number> = { ":status": status };
    for (let i = 0; i < headers.length; i += 2) {
      const name = headers[i].toLowerCase();
      fields[name] = fields[name] === undefined ? headers[i + 1] : `${fields[name]}, ${headers[i + 1]}`;
    }
    this.#request.stream.additionalHeaders(fields);
  }

  begin(status: number, ours: readonly string[], given: Given): void {
    this.#response.writeHead(status, [...ours, ...allOf(given)] as unknown as Record<string, string>);
  }

  /** Heads go at once. */
  flush(): void {}

  write(chunk: Buffer): boolean {
    return this.#response.write(chunk);
  }

  end(chunk?: Buffer): void {
    if (chunk) this.#response.end(chunk);
    else this.#response.end();
  }

  destroy(): void {
    this.#response.destroy();
  }

  switch(): Switched {
    throw new Error("a stream of HTTP/2 does not become anything else");
  }

  #drained(): void {
    const { onDrain } = this;
    this.onDrain = undefined;
    onDrain?.();
  }
}
