/** What `npm test` prints, made of the events of node's test runner. */
import path from "node:path";
import type { EventData, TestsStream } from "node:test";
import { inspect } from "node:util";

/** Characters kept of what one file wrote, the last ones; shown only if a test in it fails. */
const WRITTEN_MAX = 20_000;
/** The files that took longest are named at the end: so many, of those that took so long. */
const SLOW_MAX = 15;
const SLOW_S = 10;
/** Levels of causes and objects shown of an error. */
const ERROR_DEPTH = 6;

interface FileRecord {
  readonly name: string;
  readonly failures: string[];
  tests: number;
  skipped: number;
  written: string;
  startedMs: number;
  seconds: number;
  closed: boolean;
}

export class Report {
  readonly #root: string;
  readonly #ci: boolean;
  readonly #print: (line: string) => void;
  readonly #files = new Map<string, FileRecord>();
  readonly #skipped: string[] = [];
  readonly #counts: string[] = [];
  #success = false;
  #tests = 0;

  constructor(root: string, files: readonly string[], ci: boolean, print: (line: string) => void) {
    this.#root = root;
    this.#ci = ci;
    this.#print = print;
    for (const name of files) {
      const record = { name, failures: [], tests: 0, skipped: 0, written: "", startedMs: 0, seconds: 0, closed: false };
      this.#files.set(path.join(root, name), record);
    }
  }

  listen(stream: TestsStream): void {
    stream.on("test:dequeue", (event) => {
      const file = this.#fileOf(event);
      if (file && file.startedMs === 0) file.startedMs = performance.now();
    });
    stream.on("test:pass", (event) => this.#pass(event));
    stream.on("test:fail", (event) => this.#fail(event));
    stream.on("test:stdout", (event) => this.#write(event));
    stream.on("test:stderr", (event) => this.#write(event));
    stream.on("test:diagnostic", (event) => {
      // The runner's closing counts are the diagnostics of no file.
      if (event.file === undefined && event.nesting === 0) this.#counts.push(event.message);
    });
    stream.on("test:summary", (event) => {
      if (event.file !== undefined) return this.#close(this.#fileOf(event));
      this.#success = event.success;
      this.#tests = event.counts.tests;
    });
  }

  /** Prints what is left to say and tells whether all is well. */
  finish(): boolean {
    for (const file of this.#files.values()) this.#close(file);
    for (const skipped of this.#skipped) this.#print(`﹣ skipped: ${skipped}`);
    const complaints: string[] = [];
    if (this.#tests === 0) complaints.push("no test ran");
    for (const file of this.#files.values()) {
      if (file.tests === 0 && file.failures.length === 0) complaints.push(`no test ran in ${file.name}`);
    }
    if (this.#ci && this.#skipped.length > 0) complaints.push("a skipped test is a failure where CI=true");
    for (const complaint of complaints) this.#print(`✖ ${complaint}`);
    const slow = [...this.#files.values()].filter(({ seconds }) => seconds >= SLOW_S);
    for (const { name, seconds } of slow.toSorted((a, b) => b.seconds - a.seconds).slice(0, SLOW_MAX))
      this.#print(`ℹ slow: ${seconds.toFixed(1).padStart(6)} s ${name}`);
    for (const line of this.#counts) this.#print(`ℹ ${line}`);
    return this.#success && complaints.length === 0;
  }

  #fileOf(event: {
    readonly file?: string | undefined;
    readonly entryFile?: string | undefined;
  }): FileRecord | undefined {
    // A test that stands in a shared module belongs to the file that ran it.
    return this.#files.get(event.entryFile ?? event.file ?? "");
  }

  #pass(event: EventData.TestPass): void {
    const file = this.#fileOf(event);
    // A file without a test in it passes under its own name.
    if (!file || event.details.type === "suite" || event.name === event.file) return;
    file.tests++;
    if (event.skip === undefined || event.skip === false) return;
    file.skipped++;
    this.#skipped.push(`${file.name}: ${event.name}${typeof event.skip === "string" ? ` (${event.skip})` : ""}`);
  }

  #fail(event: EventData.TestFail): void {
    const file = this.#fileOf(event);
    if (!file) return;
    if (event.details.type !== "suite" && event.name !== event.file) file.tests++;
    const error = event.details.error;
    // A test with subtests fails with them; they have said why.
    if ("failureType" in error && error.failureType === "subtestsFailed") return;
    const place = event.file === undefined ? file.name : path.relative(this.#root, event.file);
    const cause = error.cause ?? error;
    const what = cause instanceof Error ? inspect(cause, { depth: ERROR_DEPTH }) : String(cause);
    const name = path.isAbsolute(event.name) ? path.relative(this.#root, event.name) : event.name;
    file.failures.push(`✖ ${name}\n  at ${place}:${event.line ?? 1}:${event.column ?? 1}\n${indent(what)}`);
    // A file that could not be run at all gets no summary of its own.
    if (event.name === event.file) this.#close(file);
  }

  #write(event: EventData.TestStdout | EventData.TestStderr): void {
    const file = this.#fileOf(event);
    if (file) file.written = (file.written + event.message).slice(-WRITTEN_MAX);
  }

  #close(file: FileRecord | undefined): void {
    if (!file || file.closed) return;
    file.closed = true;
    if (file.startedMs !== 0) file.seconds = (performance.now() - file.startedMs) / 1000;
    const mark = file.failures.length > 0 || file.tests === 0 ? "✖" : "✔";
    const skipped = file.skipped > 0 ? `, ${file.skipped} skipped` : "";
    this.#print(
      `${mark} ${file.name} (${file.tests} ${file.tests === 1 ? "test" : "tests"}${skipped}, ${file.seconds.toFixed(1)} s)`,
    );
    for (const failure of file.failures) this.#print(indent(failure));
    if (file.failures.length > 0 && file.written.trim() !== "")
      this.#print(indent(`what ${file.name} wrote:\n${indent(file.written.trimEnd())}`));
  }
}

const indent = (text: string): string => text.replaceAll(/^(?=.)/gm, "  ");
