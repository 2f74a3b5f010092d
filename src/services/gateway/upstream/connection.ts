/** One connection to one instance: a request at a time, our own HTTP/1.1 codec on the socket. */
import type { Socket } from "node:net";
import { Failure } from "../../../kernel/error.ts";
import { AnswerParser } from "../../../kernel/http/answer-parser.ts";
import type { Wire } from "../../../kernel/http/wire.ts";
import { Answer, type Flow } from "./answer.ts";
import { Said } from "../headers.ts";
import type { Ticket } from "../ticket.ts";
import { holdForTurn } from "../turn.ts";

/** Bodies up to this travel in one write with the head, and so in one TLS record. */
const JOINED_BYTES_MAX = 12_288;

/** The connection ended or spoke nonsense before the head of an answer. */
export class Unanswered extends Error {
  /** The connection had carried a request before: the other side may have ended it before it saw this one. */
  readonly reused: boolean;

  constructor(cause: Error, reused: boolean) {
    super(cause.message, { cause });
    this.reused = reused;
  }
}

export interface ConnectionOptions {
  readonly socket: Socket;
  readonly wire: Wire;
  /** When it is used for no further request, on the monotonic clock. */
  readonly endMs: number;
  /** The answer has ended and the connection is good for another request. */
  onFree(connection: Connection): void;
  onClosed(connection: Connection): void;
}

export interface Message {
  readonly head: string;
  readonly body: Buffer | undefined;
  /** The answer has no body whatever its head says: HEAD. */
  readonly bodyless?: boolean;
  /** Told of each interim answer (RFC 9110 15.2). */
  readonly interim?: Interim | undefined;
}
export type Interim = (status: number, headers: readonly string[]) => void;

interface Waiting {
  resolve(answer: Answer): void;
  reject(error: Error): void;
}

export class Connection implements Flow {
  readonly endMs: number;
  idleSinceMs = 0;
  readonly #options: ConnectionOptions;
  readonly #parser: AnswerParser<Said>;
  #waiting: Waiting | undefined;
  #interim: Interim | undefined;
  #answer: Answer | undefined;
  #ticket: Ticket | undefined;
  #requests = 0;
  #ended = false;
  #closed = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.endMs = options.endMs;
    this.#parser = new AnswerParser({
      said: (headers) => new Said(headers),
      interim: (status, headers) => this.#interim?.(status, headers),
      head: (status, said, length) => this.#head(status, said, length),
      data: (chunk) => this.#answer!.push(chunk),
      end: () => this.#end(),
    });
    const { socket, wire } = options;
    wire.take = (chunk) => this.#feed(chunk);
    socket.on("end", () => this.#parser.close());
    socket.on("error", (error) => this.#fail(error));
    socket.on("close", () => this.#fail(new Error("the connection ended")));
  }

  get usable(): boolean {
    return !this.#closed && !this.#answer && !this.#waiting && !this.#ended;
  }

  /** Sends a request and waits for the head of its answer; Unanswered, or what ends the ticket. */
  send({ head, body, bodyless = false, interim }: Message, ticket: Ticket): Promise<Answer> {
    ticket.throwIfEnded();
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#ticket = ticket;
      this.#interim = interim;
      // An answer to what nobody waits for would be read as that of the next request.
      ticket.onEnd = (why) => this.#fail(why);
      this.#requests++;
      this.#parser.begin(bodyless);
      const { socket } = this.#options;
      holdForTurn(socket);
      if (!body) socket.write(head, "latin1");
      else if (body.length <= JOINED_BYTES_MAX) socket.write(Buffer.concat([Buffer.from(head, "latin1"), body]));
      else {
        socket.write(head, "latin1");
        socket.write(body);
      }
    });
  }

  pause(): void {
    this.#options.socket.pause();
  }

  resume(): void {
    this.#options.socket.resume();
  }

  cut(): void {
    this.#fail(new Error("nobody wanted the rest of the answer"));
  }

  #feed(chunk: Buffer): void {
    try {
      this.#parser.feed(chunk);
    } catch (error) {
      return this.#fail(error as Error);
    }
    // Only now: had more come than the answer, it would be read as the next one's.
    if (!this.#ended) return;
    this.#ended = false;
    if (this.#parser.reusable) this.#options.onFree(this);
    else this.#fail(new Error("the answer was the connection's last"));
  }

  #head(status: number, said: Said, length: number | undefined): void {
    this.#answer = new Answer(status, said, length, this);
    this.#waiting!.resolve(this.#answer);
    this.#waiting = undefined;
  }

  #end(): void {
    const answer = this.#answer!;
    this.#answer = undefined;
    this.#ended = true;
    // Its reader may have asked it to wait at the very end: the next answer would never be read.
    this.#options.socket.resume();
    this.#release();
    answer.finish();
  }

  #release(): void {
    if (this.#ticket) this.#ticket.onEnd = undefined;
    this.#ticket = undefined;
  }

  #fail(error: Error | Failure): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#options.socket.destroy();
    this.#release();
    this.#waiting?.reject(error instanceof Failure ? error : new Unanswered(error, this.#requests > 1));
    this.#answer?.break(error);
    this.#options.onClosed(this);
  }
}
