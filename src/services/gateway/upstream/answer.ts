/** A service's answer on its way: the head is there, the body comes as fast as its reader takes it. */
import type { Said } from "../headers.ts";

export interface Reader {
  /** Answers false to be asked to wait: `resume` goes on. */
  data(chunk: Buffer): boolean;
  end(): void;
  /** The body breaks off. */
  broken(error: Error): void;
}

/** The connection that it comes over. */
export interface Flow {
  pause(): void;
  resume(): void;
  /** Cuts the connection: nobody wants the rest. */
  cut(): void;
}

export class Answer {
  readonly status: number;
  readonly said: Said;
  readonly length: number | undefined;
  readonly #flow: Flow;
  #reader: Reader | undefined;
  #held: Buffer[] = [];
  #state: "open" | "ended" | Error = "open";

  constructor(status: number, said: Said, length: number | undefined, flow: Flow) {
    this.status = status;
    this.said = said;
    this.length = length;
    this.#flow = flow;
  }

  /** Name, value, name, value, as they came. */
  get headers(): readonly string[] {
    return this.said.headers;
  }

  /** The whole body, where it has come with the head. */
  get whole(): Buffer | undefined {
    if (this.#state !== "ended" || this.#held.length > 1) return undefined;
    return this.#held[0] ?? Buffer.alloc(0);
  }

  /** Begins to give the body to its reader. */
  read(reader: Reader): void {
    this.#reader = reader;
    const held = this.#held;
    this.#held = [];
    for (const chunk of held) this.push(chunk);
    if (this.#state === "ended") reader.end();
    else if (this.#state !== "open") reader.broken(this.#state);
  }

  resume(): void {
    if (this.#state === "open") this.#flow.resume();
  }

  /** Gives up the rest. */
  cut(): void {
    if (this.#state === "open") this.#flow.cut();
  }

  /** Gathers the body; undefined where it has more than `bytesMax`. */
  gather(bytesMax: number): Promise<Buffer | undefined> {
    const chunks: Buffer[] = [];
    let size = 0;
    return new Promise((resolve, reject) => {
      this.read({
        data: (chunk) => {
          size += chunk.length;
          if (size <= bytesMax) chunks.push(chunk);
          else {
            this.cut();
            resolve(undefined);
          }
          return true;
        },
        end: () => resolve(Buffer.concat(chunks)),
        broken: reject,
      });
    });
  }

  push(chunk: Buffer): void {
    if (!this.#reader) this.#held.push(chunk);
    // Where all has come, the connection is another answer's by now.
    else if (!this.#reader.data(chunk) && this.#state === "open") this.#flow.pause();
  }

  finish(): void {
    this.#state = "ended";
    this.#reader?.end();
  }

  break(error: Error): void {
    if (this.#state !== "open") return;
    this.#state = error;
    this.#reader?.broken(error);
  }
}
