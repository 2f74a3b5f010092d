/** Writes the heads of answers (RFC 9112 4, RFC 9110 6.6.1). */
import { STATUS_CODES } from "node:http";
import type { Clock } from "../../../kernel/clock.ts";

export interface WrittenHead {
  /** The lines so far, each with its CRLF; the empty one is still missing. */
  readonly text: string;
  /** They say how long the body is. */
  readonly framed: boolean;
}

const NOT_IN_A_VALUE = /[^\t\x20-\x7e\x80-\xff]/;

export class AnswerWriter {
  readonly #clock: Clock;
  #second = 0;
  #date = "";

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Writes the status line and the headers; a Date where they have none. Throws at a value that would break the line. */
  head(status: number, headers: readonly string[]): WrittenHead {
    const text = this.lines(status, headers);
    let framed = false;
    let dated = false;
    for (let i = 0; i < headers.length; i += 2) {
      const name = headers[i];
      if (name.length === 14) framed ||= name.toLowerCase() === "content-length";
      else if (name.length === 4) dated ||= name.toLowerCase() === "date";
    }
    return { text: dated ? text : `${text}Date: ${this.#now()}\r\n`, framed };
  }

  /** Writes the status line and the headers, as they are. */
  lines(status: number, headers: readonly string[]): string {
    let text = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n`;
    for (let i = 0; i < headers.length; i += 2) {
      if (NOT_IN_A_VALUE.test(headers[i + 1])) throw new Error(`the answer's header ${headers[i]} cannot be written`);
      text += `${headers[i]}: ${headers[i + 1]}\r\n`;
    }
    return text;
  }

  #now(): string {
    const second = Math.floor(this.#clock.wallMs() / 1_000);
    if (second !== this.#second) {
      this.#second = second;
      this.#date = new Date(second * 1_000).toUTCString();
    }
    return this.#date;
  }
}
