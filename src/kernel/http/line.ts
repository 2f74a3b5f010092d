/** One kept connection: a request at a time, and its answer, whole. */
import type { TLSSocket } from "node:tls";
import { AnswerParser } from "./answer-parser.ts";
import type { Wire } from "./wire.ts";

/** Below what our servers wait (65 s), so that the one who sends is the one who closes. */
const IDLE_MS_MAX = 50_000;
/** Bodies up to this travel in one write with the head, and so in one TLS record. */
const JOINED_BYTES_MAX = 12_288;
const FAILURE_STATUS = 300;

export interface Asked {
  /** With the empty line that ends it. */
  readonly head: string;
  readonly body: Uint8Array | string | undefined;
  /** A longer answer is not read. */
  readonly bytesMax: number;
  /** The same for one that is a failure. */
  readonly failureBytesMax: number;
}

/** An answer, with its body; without where that is longer than it may be. */
export interface Whole {
  readonly status: number;
  /** Name, value, ... */
  readonly headers: readonly string[];
  readonly body: Buffer | undefined;
}

interface Waiting {
  resolve(answer: Whole): void;
  reject(error: Error): void;
}

export interface LineEvents {
  onFree(): void;
  onClosed(): void;
}

const NOTHING = Buffer.alloc(0);

export class Line {
  readonly socket: TLSSocket;
  readonly #events: LineEvents;
  readonly #parser: AnswerParser<Pick<Whole, "headers">>;
  #asked: Asked | undefined;
  #waiting: Waiting | undefined;
  #status = 0;
  #headers: readonly string[] = [];
  #chunks: Buffer[] = [];
  #sizeBytes = 0;
  #isOpen = false;
  #isAnswered = false;
  #isClosed = false;

  constructor(socket: TLSSocket, wire: Wire, events: LineEvents) {
    this.socket = socket;
    this.#events = events;
    this.#parser = new AnswerParser({
      said: (headers) => ({ headers }),
      interim: () => undefined,
      head: (status, { headers }, length) => this.#head(status, headers, length),
      data: (chunk) => this.#data(chunk),
      end: () => (this.#isAnswered = true),
    });
    socket.once("secureConnect", () => {
      this.#isOpen = true;
      if (this.#asked) this.#send(this.#asked);
    });
    socket.setTimeout(IDLE_MS_MAX, () => this.#waiting ?? this.cut());
    wire.take = (chunk) => this.#feed(chunk);
    socket.on("end", () => this.#finish());
    socket.on("error", (error) => this.cut(error));
    socket.on("close", () => this.cut());
  }

  /** Sends a request, once the connection has proven whom it leads to. */
  ask(asked: Asked, waiting: Waiting): void {
    this.#asked = asked;
    this.#waiting = waiting;
    this.socket.ref();
    if (this.#isOpen) this.#send(asked);
  }

  /** Told that it is kept for later: it holds no process. */
  rest(): void {
    this.socket.unref();
  }

  /** Ends it; what it carries rejects with the error. */
  cut(error?: Error): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.socket.destroy();
    this.#take()?.reject(error ?? broken("ECONNRESET", "the connection ended before the answer"));
    this.#events.onClosed();
  }

  #send({ head, body }: Asked): void {
    this.#chunks = [];
    this.#sizeBytes = 0;
    this.#parser.begin();
    if (body === undefined) this.socket.write(head, "latin1");
    else if (body.length <= JOINED_BYTES_MAX)
      this.socket.write(
        Buffer.concat([Buffer.from(head, "latin1"), typeof body === "string" ? Buffer.from(body) : body]),
      );
    else {
      this.socket.cork();
      this.socket.write(head, "latin1");
      this.socket.write(body);
      this.socket.uncork();
    }
  }

  #feed(chunk: Buffer): void {
    try {
      this.#parser.feed(chunk);
    } catch (error) {
      return this.cut(broken("ERR_ANSWER_MALFORMED", (error as Error).message));
    }
    this.#answer();
  }

  #finish(): void {
    this.#parser.close();
    this.#answer();
    this.cut();
  }

  /** Only when all that came is read: had more come than the answer, it would be taken for the next one's. */
  #answer(): void {
    if (!this.#isAnswered || this.#isClosed) return;
    this.#isAnswered = false;
    const [only = NOTHING] = this.#chunks;
    const body = this.#chunks.length > 1 ? Buffer.concat(this.#chunks) : only;
    this.#chunks = [];
    this.#take()?.resolve({ status: this.#status, headers: this.#headers, body });
    if (this.#parser.reusable) this.#events.onFree();
    else this.cut();
  }

  #head(status: number, headers: readonly string[], length = 0): void {
    this.#status = status;
    this.#headers = headers;
    this.#bound(length);
  }

  #data(chunk: Buffer): void {
    this.#sizeBytes += chunk.length;
    this.#chunks.push(chunk);
    this.#bound(this.#sizeBytes);
  }

  #bound(sizeBytes: number): void {
    const { bytesMax, failureBytesMax } = this.#asked ?? { bytesMax: 0, failureBytesMax: 0 };
    if (sizeBytes <= (this.#status < FAILURE_STATUS ? bytesMax : failureBytesMax)) return;
    this.#take()?.resolve({ status: this.#status, headers: this.#headers, body: undefined });
    this.cut();
  }

  #take(): Waiting | undefined {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting) this.#asked = undefined;
    return waiting;
  }
}

const broken = (code: string, message: string): Error => Object.assign(new Error(message), { code });
