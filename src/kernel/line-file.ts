/** Where lines go: a file or a pipe, written at once, or with the others of a turn of the event loop. */
import { writeSync } from "node:fs";

/** A reader that is behind is waited for so long before the next try: a line is never left out. */
const FULL_PIPE_MS = 5;
/** Of lines that wait for the turn's end; above it they are written. */
const HELD_LENGTH_MAX = 65_536;

/** Those with lines that wait: a process that exits writes them first. */
const holding = new Set<LineFile>();

export class LineFile {
  readonly #fd: number;
  #held = "";

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Writes a line, which is there whatever becomes of the process. */
  write(line: string): void {
    this.flush();
    writeWhole(this.#fd, line);
  }

  /** Writes a line at the turn's end, together with the others: a kill loses what the turn had, an exit nothing. */
  writeSoon(line: string): void {
    if (this.#held === "") {
      if (holding.size === 0) beginTurn();
      holding.add(this);
    }
    this.#held += line;
    if (this.#held.length > HELD_LENGTH_MAX) this.flush();
  }

  /** Writes what waits. */
  flush(): void {
    const held = this.#held;
    this.#held = "";
    if (held !== "") writeWhole(this.#fd, held);
  }
}

let minded = false;

function beginTurn(): void {
  setImmediate(endTurn);
  if (minded) return;
  minded = true;
  process.on("exit", endTurn);
}

function endTurn(): void {
  for (const file of holding) file.flush();
  holding.clear();
}

const sleeping = new Int32Array(new SharedArrayBuffer(4));

function writeWhole(fd: number, line: string): void {
  let bytes: Buffer | undefined;
  for (let written = 0; ;) {
    try {
      if (bytes === undefined) {
        written = writeSync(fd, line);
        if (written === line.length && written === Buffer.byteLength(line)) return;
        bytes = Buffer.from(line);
      } else written += writeSync(fd, bytes, written);
      if (written >= bytes.length) return;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Nobody reads any more: what is being done is done all the same.
      if (code === "EPIPE") return;
      if (code !== "EAGAIN") throw error;
      Atomics.wait(sleeping, 0, 0, FULL_PIPE_MS);
    }
  }
}
