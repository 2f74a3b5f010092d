/**
 * One connection to one instance that requests share: those of one turn of the event loop go out in one write, and their
 * answers come in the same order (RFC 9112 9.3.2). Only what may be repeated travels so, and only to who is trusted: an
 * answer that is not exactly framed would be read as another person's.
 */
import type { Socket } from "node:net";
import { DEADLINE, Failure } from "../../../kernel/error.ts";
import { Said } from "../headers.ts";
import type { Ticket } from "../ticket.ts";
import { Answer } from "./answer.ts";
import { AnswerParser } from "../../../kernel/http/answer-parser.ts";
import type { Wire } from "../../../kernel/http/wire.ts";
import { type Interim, type Message, Unanswered } from "./connection.ts";

/** Requests on their way at once; a further one goes by a connection of its own. */
const RUNNING_MAX = 64;

export interface PipelineOptions {
  readonly socket: Socket;
  readonly wire: Wire;
  /** When it is used for no further request, on the monotonic clock. */
  readonly endMs: number;
}

interface Sent {
  readonly bodyless: boolean;
  readonly ticket: Ticket;
  readonly interim: Interim | undefined;
  resolve(answer: Answer): void;
  reject(error: Error): void;
  /** Nobody waits for it any more; what comes is thrown away. */
  left: boolean;
}

export class Pipeline {
  readonly endMs: number;
  readonly #socket: Socket;
  readonly #parser: AnswerParser<Said>;
  /** In the order of their answers; the first one's is coming. */
  readonly #sent: Sent[] = [];
  #answer: Answer | undefined;
  #text = "";
  #answered = 0;
  #retired = false;
  #closed = false;

  constructor({ socket, wire, endMs }: PipelineOptions) {
    this.endMs = endMs;
    this.#socket = socket;
    this.#parser = new AnswerParser({
      said: (headers) => new Said(headers),
      interim: (status, headers) => this.#interim(status, headers),
      head: (status, said, length) => this.#head(status, said, length),
      data: (chunk) => this.#answer?.push(chunk),
      end: () => this.#end(),
    });
    wire.take = (chunk) => this.#feed(chunk);
    socket.on("end", () => this.#fail(new Error("the connection ended")));
    socket.on("error", (error) => this.#fail(error));
    socket.on("close", () => this.#fail(new Error("the connection ended")));
  }

  get usable(): boolean {
    return !this.#closed && !this.#retired;
  }

  get hasRoom(): boolean {
    return this.#sent.length < RUNNING_MAX;
  }

  /** Sends a request with the others of this turn and waits for the head of its answer; Unanswered, or what ends the ticket. */
  send({ head, bodyless = false, interim }: Message, ticket: Ticket): Promise<Answer> {
    ticket.throwIfEnded();
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new Unanswered(new Error("the connection ended"), true));
      const sent: Sent = { bodyless, ticket, interim, resolve, reject, left: false };
      ticket.onEnd = (why) => this.#leave(sent, why);
      this.#sent.push(sent);
      if (this.#sent.length === 1) this.#parser.begin(bodyless);
      if (this.#text === "") setImmediate(() => this.#flush());
      this.#text += head;
    });
  }

  /** Takes no further request, and ends with the last answer. */
  retire(): void {
    this.#retired = true;
    if (this.#sent.length === 0) this.#socket.destroy();
  }

  #flush(): void {
    const text = this.#text;
    this.#text = "";
    if (!this.#closed) this.#socket.write(text, "latin1");
  }

  /** Nobody waits for it any more. Where the one that all others wait for is too late, they go elsewhere. */
  #leave(sent: Sent, why: Error): void {
    sent.left = true;
    sent.reject(why);
    if (this.#sent[0] !== sent) return;
    const answer = this.#answer;
    this.#answer = undefined;
    answer?.break(why);
    this.#socket.resume();
    if (why instanceof Failure && why.code === DEADLINE.code) this.#fail(why);
  }

  #feed(chunk: Buffer): void {
    try {
      this.#parser.feed(chunk);
    } catch (error) {
      return this.#fail(error as Error);
    }
    if (this.#sent.length > 0) return;
    if (this.#retired || !this.#parser.reusable) this.#fail(new Error("the answer was the connection's last"));
  }

  #interim(status: number, headers: readonly string[]): void {
    const [sent] = this.#sent;
    if (!sent.left) sent.interim?.(status, headers);
  }

  #head(status: number, said: Said, length: number | undefined): void {
    const [sent] = this.#sent;
    if (sent.left) return;
    this.#answer = new Answer(status, said, length, {
      pause: () => void this.#socket.pause(),
      resume: () => void this.#socket.resume(),
      cut: () => this.#leave(sent, new Error("nobody wanted the rest of the answer")),
    });
    sent.resolve(this.#answer);
  }

  #end(): void {
    const sent = this.#sent.shift()!;
    const answer = this.#answer;
    this.#answer = undefined;
    this.#answered++;
    if (!sent.left) sent.ticket.onEnd = undefined;
    // Its reader may have asked it to wait at the very end: the next answer would never be read.
    this.#socket.resume();
    const [next] = this.#sent;
    if (next) this.#parser.begin(next.bodyless);
    answer?.finish();
  }

  #fail(error: Error | Failure): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.destroy();
    // One that has ended says why to its own request alone.
    const cause = error instanceof Failure ? new Error("a request before this one took too long") : error;
    const begun = this.#answer;
    this.#answer = undefined;
    begun?.break(error);
    // The first one has its answer, as far as that came.
    for (const sent of this.#sent.splice(0).slice(begun ? 1 : 0)) {
      if (sent.left) continue;
      sent.ticket.onEnd = undefined;
      sent.reject(new Unanswered(cause, this.#answered > 0));
    }
  }
}
