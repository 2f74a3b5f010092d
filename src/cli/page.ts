/** Where a command writes: plain and as wide as it likes into a pipe, styled and within its columns on a terminal. */
import { styleText } from "node:util";
import { stringifyJson } from "../kernel/json.ts";
import { wrap } from "./text.ts";

export type Style = Parameters<typeof styleText>[0];

export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface Page {
  /** Columns; Infinity where the output is no terminal, so that nothing is cut from what a program reads. */
  readonly width: number;
  readonly tty: boolean;
  style(style: Style, text: string): string;
  line(text?: string): void;
  lines(texts: readonly string[]): void;
  /** One JSON value on one line; integers beyond 2^53 are written exactly. */
  json(value: unknown): void;
  /** Clears a terminal and shows these lines; elsewhere they follow the last ones. */
  replace(texts: readonly string[]): void;
}

const WIDTH_MIN = 40;
const WIDTH_USUAL = 80;
const LABEL_WIDTH = 12;

/** Opens a page on an output; standard output unless said. */
export function openPage(out: Output = process.stdout, env: NodeJS.ProcessEnv = process.env): Page {
  if (out === process.stdout) endWithReader();
  const tty = out.isTTY === true;
  const colors = tty && env["TERM"] !== "dumb" && !env["NO_COLOR"];
  const page: Page = {
    tty,
    get width() {
      return tty ? Math.max(WIDTH_MIN, out.columns ?? WIDTH_USUAL) : Number.POSITIVE_INFINITY;
    },
    style: (style, text) => (colors && text !== "" ? styleText(style, text, { validateStream: false }) : text),
    line: (text = "") => void out.write(`${text}\n`),
    lines: (texts) => void (texts.length > 0 && out.write(`${texts.join("\n")}\n`)),
    json: (value) => void out.write(`${stringifyJson(value)}\n`),
    // The lines first and what is left below after them: no flicker.
    replace: (texts) =>
      void out.write(
        tty ? `\u001b[H${texts.map((text) => `${text}\u001b[K\n`).join("")}\u001b[J` : `${texts.join("\n")}\n\n`,
      ),
  };
  return page;
}

/** A page for nobody but a terminal: what a person may like to know beside the answer, on standard error. */
export function openHints(out: Output = process.stderr, env: NodeJS.ProcessEnv = process.env): Page | undefined {
  return out.isTTY === true ? openPage(out, env) : undefined;
}

/** Writes rows of a label and a text that goes on below itself. */
export function labelled(page: Page, rows: readonly (readonly [label: string, text: string])[]): string[] {
  return rows.flatMap(([label, text]) =>
    wrap(text, page.width - LABEL_WIDTH).map(
      (part, at) => page.style("cyan", (at === 0 ? label : "").padEnd(LABEL_WIDTH)) + part,
    ),
  );
}

let ends = false;

/** `holdfast readings --follow | head` closes its end of the pipe: nobody to write to any more is no failure. */
function endWithReader(): void {
  if (ends) return;
  ends = true;
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    throw error;
  });
}
