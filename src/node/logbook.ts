/** The node's log book: what its processes write on their standard output, kept encrypted and bounded, for `holdfast logs`. */
import type { Readable } from "node:stream";
import { type Journal, openJournal } from "../kernel/journal/journal.ts";
import { stripVTControlCharacters } from "node:util";
import { asFailure } from "../kernel/error.ts";

/** One line, read as far as it can be. */
export interface LogLine {
  readonly service: string;
  readonly level: number;
  readonly message: string;
  readonly code?: string;
  /** As it is kept. */
  readonly text: string;
}

const INFO = 30;
export const WARN = 40;
export const ERROR = 50;
const LINE_KIND = 1;
/** A longer line is cut; nothing of ours writes one. */
const LINE_BYTES_MAX = 64 * 1024;
const SIZE_BYTES_MAX = 64 * 1024 * 1024;
/** The oldest quarter goes when the book is so full; more, where those lines were short ones. */
const TRIM_AT = 0.75;
const TRIMMED = 1 / 4;
const TRIMMED_MAX = 0.99;
const FLUSH_MS = 500;
/** Lines in memory while the disk is slow or full; above it new ones are counted, not kept. */
const WAITING_BYTES_MAX = 4 * 1024 * 1024;
/** Of one page for who follows the book. */
const PAGE_LINES_MAX = 1_000;
const PAGE_BYTES_MAX = 512 * 1024;
/** How many positions one step back looks at. */
const LOOK_BACK = 4_096;

/** What the book has after a position; `missed` were there, and are gone. */
export interface LogPage {
  readonly lines: readonly { readonly position: number; readonly service: string; readonly text: string }[];
  readonly next: number;
  readonly missed: number;
}

export interface LogQuery {
  readonly lines: number;
  readonly requestId?: string;
  readonly service?: string;
}

export class Logbook {
  readonly #journal: Journal;
  readonly #sizeBytesMax: number;
  readonly #onTrouble: (message: string) => void;
  #waiting: { kind: number; key: string; payload: Buffer }[] = [];
  #waitingBytes = 0;
  #dropped = 0;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();
  #troubled = false;

  private constructor(journal: Journal, sizeBytesMax: number, onTrouble: (message: string) => void) {
    this.#journal = journal;
    this.#sizeBytesMax = sizeBytesMax;
    this.#onTrouble = onTrouble;
  }

  /** Opens the book; `onTrouble` is told once when it cannot be written. Journal's codes. */
  static async open(options: {
    directory: string;
    key: Uint8Array;
    onTrouble: (message: string) => void;
    sizeBytesMax?: number;
  }): Promise<Logbook> {
    const { directory, key, sizeBytesMax = SIZE_BYTES_MAX } = options;
    return new Logbook(
      await openJournal({ directory, key, sizeBytesMax, segmentBytesMax: sizeBytesMax / 16 }),
      sizeBytesMax,
      options.onTrouble,
    );
  }

  /** Keeps a line; on the disk within half a second. */
  add(service: string, text: string): void {
    const payload = Buffer.from(text.length > LINE_BYTES_MAX ? text.slice(0, LINE_BYTES_MAX) : text);
    if (this.#waitingBytes + payload.length > WAITING_BYTES_MAX) {
      this.#dropped++;
      return;
    }
    this.#waiting.push({ kind: LINE_KIND, key: service, payload });
    this.#waitingBytes += payload.length;
    this.#timer ??= setTimeout(() => void this.flush(), FLUSH_MS).unref();
  }

  /** Writes what waits. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const entries = this.#waiting;
    this.#waiting = [];
    if (entries.length > 0) this.#writing = this.#writing.then(() => this.#write(entries));
    return this.#writing;
  }

  /** Lists the newest lines, oldest first, of one service or request where named. */
  async tail({ lines, requestId, service }: LogQuery): Promise<string[]> {
    await this.flush();
    const journal = this.#journal;
    let found: string[] = [];
    for (let end = journal.last; end >= journal.first && found.length < lines; end -= LOOK_BACK) {
      const from = Math.max(journal.first - 1, end - LOOK_BACK);
      found = [...(await this.#between(from, end, requestId, service)), ...found];
    }
    return found.slice(-lines);
  }

  /** Reads on from a position; one beyond the end is the end. */
  async after(position: number): Promise<LogPage> {
    await this.flush();
    const { first, last } = this.#journal;
    const from = Math.min(position, last);
    const missed = Math.max(0, first - 1 - from);
    if (from === last) return { lines: [], next: last, missed };
    const { records, next } = await this.#journal.read(from + missed, {
      recordsMax: PAGE_LINES_MAX,
      bytesMax: PAGE_BYTES_MAX,
    });
    const lines = records.map(({ position: at, key, payload }) => {
      return { position: at, service: key, text: Buffer.from(payload).toString() };
    });
    return { lines, next, missed };
  }

  async close(): Promise<void> {
    await this.flush();
    await this.#journal.close();
  }

  async #between(
    after: number,
    end: number,
    requestId: string | undefined,
    service: string | undefined,
  ): Promise<string[]> {
    const texts: string[] = [];
    while (after < end) {
      const { records, next } = await this.#journal.read(after, { recordsMax: end - after });
      for (const { position, key, payload } of records) {
        if (position > end || (service !== undefined && key !== service)) continue;
        const text = Buffer.from(payload).toString();
        if (requestId === undefined || text.includes(requestId)) texts.push(text);
      }
      if (next <= after) break;
      after = next;
    }
    return texts;
  }

  async #write(entries: { kind: number; key: string; payload: Buffer }[]): Promise<void> {
    try {
      await this.#journal.appendMany(entries);
      for (let share = TRIMMED; share < TRIMMED_MAX; share = (1 + share) / 2) {
        const { first, last, sizeBytes } = this.#journal;
        if (sizeBytes <= this.#sizeBytesMax * TRIM_AT) break;
        await this.#journal.trim(first + Math.floor((last - first) * share));
      }
      if (this.#dropped > 0) this.#onTrouble(`${this.#dropped} log lines could not be kept`);
      this.#dropped = 0;
      this.#troubled = false;
    } catch (error) {
      this.#dropped += entries.length;
      if (!this.#troubled) this.#onTrouble(`log lines cannot be kept: ${asFailure(error).message}`);
      this.#troubled = true;
    } finally {
      this.#waitingBytes -= entries.reduce((sum, { payload }) => sum + payload.length, 0);
    }
  }
}

/** Cuts an output of a process into lines. */
export function eachLine(output: Readable, onLine: (text: string) => void): void {
  let held = "";
  output.setEncoding("utf8");
  output.on("data", (text: string) => {
    const lines = (held + text).split("\n");
    held = (lines.pop() ?? "").slice(-LINE_BYTES_MAX);
    for (const line of lines) if (line !== "") onLine(line);
  });
  output.on("end", () => {
    if (held !== "") onLine(held);
  });
  // A pipe breaks with its process, whose exit is noticed elsewhere.
  output.on("error", () => output.destroy());
}

/** The head of what Node prints when it gives up; the lines after it are for the log book alone. */
const TROUBLE = /^\w*Error\b|^FATAL|^holdfast:/;

/** Requests that only keep the house running are not worth a line each. */
const HOUSEKEEPING = /"operation":"(renew|record)","caller":"[^"]*","status":200,/;

/** What a service's line may hold; it is the service's word for it. */
interface Written {
  readonly level?: unknown;
  readonly msg?: unknown;
  readonly service?: unknown;
  readonly code?: unknown;
  readonly err?: { readonly message?: unknown } | string;
}

/**
 * Reads a line of a process that runs these services; undefined for one that is not worth keeping. What is no JSON is a
 * crash's last words. A line in the name of another service is kept as its writer's, with the name that it claimed.
 */
export function readLine(services: readonly string[], text: string): LogLine | undefined {
  if (HOUSEKEEPING.test(text)) return undefined;
  const [own = ""] = services;
  const written = writtenIn(text);
  if (!written) {
    const level = TROUBLE.test(text) ? ERROR : INFO;
    const wrapped = JSON.stringify({ level, time: new Date().toISOString(), service: own, msg: text });
    return { service: own, level, message: shown(text), text: wrapped };
  }
  const { service = own, code } = written;
  const isOwn = typeof service === "string" && services.includes(service);
  return {
    service: isOwn ? service : own,
    level: typeof written.level === "number" ? written.level : INFO,
    message: shown(wordsOf(written)),
    ...(typeof code === "string" ? { code: shown(code) } : {}),
    text: isOwn ? text : JSON.stringify({ ...written, service: own, claimed: service }),
  };
}

function writtenIn(text: string): Written | undefined {
  try {
    const line: unknown = JSON.parse(text);
    return typeof line === "object" && line !== null ? line : undefined;
  } catch {
    return undefined;
  }
}

function wordsOf({ msg, err }: Written): string {
  const cause = wordIn(typeof err === "object" ? err?.message : err);
  const words = wordIn(msg);
  if (words === undefined) return cause ?? "";
  return cause === undefined || words.includes(cause) ? words : `${words}: ${cause}`;
}

const wordIn = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);

/** A terminal obeys some characters: what a service writes is words, and nothing else. */
const shown = (text: string): string => stripVTControlCharacters(text).replace(CONTROLS, "");
/** All but tab and line feed. */
const CONTROLS = /[^\P{Cc}\t\n]/gu;
