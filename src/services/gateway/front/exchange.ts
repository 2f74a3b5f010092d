/** One request and its answer, whichever protocol they travel by. */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Failure } from "../../../kernel/error.ts";
import type { Given, Head } from "../headers.ts";

/** Takes a request's body as it comes. */
export interface BodyReader {
  data(chunk: Buffer): void;
  end(): void;
  /** The client has gone, or what followed was malformed. */
  broken(): void;
}

/** A client's connection that speaks something else from now on, and what came behind its request. */
export interface Switched {
  readonly socket: Socket;
  readonly rest: Buffer;
}

/** What a client asks for. */
export interface Incoming {
  readonly method: string;
  readonly url: string;
  /** Name, value, name, value, as they came. */
  readonly rawHeaders: readonly string[];
  /** Of the client. */
  readonly address: string;
  /** What the limits count by. */
  readonly client: string;
  /** The connection it came by, which may have a certificate; undefined where that is not TLS. */
  readonly tls: TLSSocket | undefined;
  /** The client waits for 100 Continue before it sends the body. */
  readonly expects: boolean;
  /** The client asks to go on as a WebSocket. */
  readonly upgrades: boolean;
  /** The whole request has come. */
  readonly received: boolean;
  /** An answer may still be given. */
  readonly open: boolean;
  /** There is no client any more. */
  readonly gone: boolean;

  /** Reads the headers, once; what is ambiguous throws. */
  head(): Head;
  /** Gives the body from here on. */
  read(reader: BodyReader): void;
  /** Says 100 Continue. */
  proceed(): void;
  /** Says what comes before the answer (RFC 9110 15.2), as long as there is none and the client knows of such. */
  inform(status: number, headers: readonly string[]): void;
}

export interface Exchange extends Incoming {
  /** The answer was given to its end. */
  readonly finished: boolean;

  /** Called once: the answer is over, however it ended. */
  onClose: (() => void) | undefined;
  /** Called where what follows of the request is malformed or too slow: no more of it will come. */
  onFault: ((failure: Failure) => void) | undefined;
  /** Called once: more of the answer may be written, or there is nobody to write it to. */
  onDrain: (() => void) | undefined;

  /** Begins the answer, with what is ours and what is given on; `last`: the connection's last one. It is on its way with what is written next, or with `flush`. */
  begin(status: number, ours: readonly string[], given: Given, last: boolean): void;
  flush(): void;
  /** False where the client takes it more slowly than it comes. */
  write(chunk: Buffer): boolean;
  end(chunk?: Buffer): void;
  /** Cuts the client off: half an answer is not to be taken for one. */
  destroy(): void;
  /** Writes the head of a 101 and gives the connection away. */
  switch(head: string): Switched;
}
