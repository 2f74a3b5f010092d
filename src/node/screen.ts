/** The terminal while the node runs: what comes up, a short page, then one line that lives. Piped: plain lines, few of them. */
import { stripVTControlCharacters, styleText } from "node:util";
import { ERROR, type LogLine, WARN } from "./logbook.ts";
import type { UnitState } from "./unit.ts";

export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** Trouble of the same words is said once in so long. */
const REPEAT_MS = 10_000;
const REMEMBERED_MAX = 64;
const LIVE_TTY_MS = 1_000;
const LIVE_PIPED_MS = 10_000;
const WIDTH_MIN = 40;
/** Wider lines are hard to read, however wide the terminal. */
const WIDTH_MAX = 110;
const LABEL_WIDTH = 11;

type Style = Parameters<typeof styleText>[0];

/** A line of the page: a word in front, and what it says. */
export type Row = readonly [label: string, text: string];

export class Screen {
  readonly #out: Output;
  readonly #tty: boolean;
  readonly #colors: boolean;
  readonly #startMs = performance.now();
  readonly #said = new Map<string, number>();
  readonly #up = new Set<string>();
  #live = "";
  #timer: NodeJS.Timeout | undefined;
  #stopping = false;
  /** So wide are the names of the services. */
  nameWidth = 22;

  constructor(out: Output, env: NodeJS.ProcessEnv) {
    this.#out = out;
    this.#tty = out.isTTY === true && env["TERM"] !== "dumb";
    this.#colors = this.#tty && !env["NO_COLOR"];
  }

  get width(): number {
    return Math.min(WIDTH_MAX, Math.max(WIDTH_MIN, (this.#out.columns ?? WIDTH_MAX) - 1));
  }

  /** Writes a line above the living one. */
  say(text = ""): void {
    this.#out.write(`${this.#tty && this.#live ? "\r\u001b[K" : ""}${text}\n${this.#tty ? this.#live : ""}`);
  }

  title(name: string, rest: string): void {
    this.say(`${this.#style("bold", name)} ${this.#style("dim", rest)}`);
    this.say();
  }

  /** Shows how a service fares. */
  service(name: string, state: UnitState, reason: string | undefined): void {
    const ms = `${Math.round(performance.now() - this.#startMs)} ms`;
    const label = name.padEnd(this.nameWidth);
    if (this.#stopping) return;
    if (state === "passing" && !this.#up.has(name)) {
      this.#up.add(name);
      this.say(`  ${this.#style("green", "up")}    ${label}${this.#style("dim", ms.padStart(9))}`);
    } else if (state === "restarting") {
      this.#up.delete(name);
      this.say(`  ${this.#style("yellow", "again")} ${label} ${reason ?? ""}`);
    } else if (state === "critical") this.say(`  ${this.#style("red", "loop")}  ${label} ${reason ?? ""}`);
  }

  /** Shows a log line of trouble; the rest is in the log book. */
  line(line: LogLine): void {
    if (line.level < WARN || this.#stopping) return;
    const key = `${line.service} ${line.message}`;
    const nowMs = performance.now();
    if (nowMs - (this.#said.get(key) ?? Number.NEGATIVE_INFINITY) < REPEAT_MS) return;
    if (this.#said.size >= REMEMBERED_MAX) this.#said.clear();
    this.#said.set(key, nowMs);
    const mark = line.level >= ERROR ? this.#style("red", "error") : this.#style("yellow", "warn ");
    this.say(`  ${mark} ${line.service}: ${line.message}${line.code ? this.#style("dim", ` (${line.code})`) : ""}`);
  }

  /** Shows the page: rows whose long texts go on below themselves. */
  page(head: string, rows: readonly Row[]): void {
    this.say();
    this.say(this.#style("bold", head));
    this.say();
    for (const [label, text] of rows) {
      const lines = wrap(text, this.width - LABEL_WIDTH - 2);
      lines.forEach((part, at) =>
        this.say(`  ${this.#style("cyan", (at === 0 ? label : "").padEnd(LABEL_WIDTH))}${part}`),
      );
    }
    this.say();
  }

  /** Keeps one line current: every second on a terminal, as a line of its own every ten seconds where it is piped. */
  live(text: () => string): void {
    const show = (): void => {
      const line = stripVTControlCharacters(text());
      // Only a terminal would break it, and then leave half of it behind.
      if (!this.#tty) return this.say(line);
      this.#live = this.#style("dim", line.slice(0, this.width));
      this.#out.write(`\r\u001b[K${this.#live}`);
    };
    this.#timer = setInterval(show, this.#tty ? LIVE_TTY_MS : LIVE_PIPED_MS).unref();
    if (this.#tty) show();
  }

  /** From here on only what is said about the end. */
  stopping(): void {
    clearInterval(this.#timer);
    this.#stopping = true;
    if (this.#live) this.#out.write("\r\u001b[K");
    this.#live = "";
  }

  #style(style: Style, text: string): string {
    return this.#colors ? styleText(style, text, { validateStream: false }) : text;
  }
}

/** Breaks a text at spaces. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const paragraph of text.split("\n")) {
    let line = "";
    for (const word of paragraph.split(" ")) {
      if (line !== "" && line.length + 1 + word.length > width) {
        lines.push(line);
        line = word;
      } else line = line === "" ? word : `${line} ${word}`;
    }
    lines.push(line);
  }
  return lines;
}
