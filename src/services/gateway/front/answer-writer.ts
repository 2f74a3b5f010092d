/** Writes the heads of answers (RFC 9112 4, RFC 9110 6.6.1). */
import { STATUS_CODES } from "node:http";
import type { Clock } from "../../../kernel/clock.ts";
import type { Given } from "../headers.ts";

const NOT_IN_A_VALUE = /[^\t\x20-\x7e\x80-\xff]/;

const statusLine = (status: number): string => `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n`;

/** Throws at a value that would break the line. */
function linesOf(headers: readonly string[]): string {
  let text = "";
  for (let i = 0; i < headers.length; i += 2) {
    if (NOT_IN_A_VALUE.test(headers[i + 1])) throw new Error(`the answer's header ${headers[i]} cannot be written`);
    text += `${headers[i]}: ${headers[i + 1]}\r\n`;
  }
  return text;
}

const linesGiven = (given: Given): string =>
  (given.lines ??= (given.upon ? linesGiven(given.upon) : "") + linesOf(given.headers));

export class AnswerWriter {
  readonly #clock: Clock;
  #second = 0;
  #date = "";

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Writes all but the empty line: a Date where there is none yet. Throws at a value that would break its line. */
  head(status: number, ours: readonly string[], given: Given): string {
    return `${statusLine(status)}${linesOf(ours)}${linesGiven(given)}${given.dated ? "" : this.#dated()}`;
  }

  /** Writes the status line and the headers, as they are. */
  lines(status: number, headers: readonly string[]): string {
    return statusLine(status) + linesOf(headers);
  }

  #dated(): string {
    const second = Math.floor(this.#clock.wallMs() / 1_000);
    if (second !== this.#second) {
      this.#second = second;
      this.#date = `Date: ${new Date(second * 1_000).toUTCString()}\r\n`;
    }
    return this.#date;
  }
}
