/** Keeps the audit trail: adds lines to its chain, has identity sign where it ends, and lets go of what is too old or too much. */
import type { AuditEntry } from "../../../kernel/audit.ts";
import type { Log } from "../../../kernel/log.ts";
import type { Place } from "../../../kernel/identity/audit-statement.ts";
import { type AuditLine, BEGIN, BROKEN, CHECKPOINT, hashOf, readLine, RETAINED } from "../chain.api.ts";
import { cutAt, newSegment, readSegment, removeSegment, type Segment, segmentsIn, SegmentWriter } from "./segments.ts";

/** Identity, as the trail needs it. */
export interface Signer {
  /** What was signed last. */
  anchor(): Promise<Place>;
  /** Signs a place and keeps it as the anchor. */
  sign(place: Place): Promise<string>;
}

export interface TrailOptions {
  readonly directory: string;
  /** 32 bytes. */
  readonly key: Uint8Array;
  readonly log: Log;
  readonly sizeBytesMax: number;
  readonly keepSeconds: number;
}

export interface Found {
  readonly lines: string[];
  readonly newest: number;
  readonly damage: string[];
}

/** A batch is sealed as one frame; larger ones are cut into several. */
const FRAME_LINES_MAX = 512;
/** A segment that has a sixteenth of what is kept gets no further frame, within these: a start and a search read whole ones. */
const SEGMENT_BYTES_MIN = 65_536;
const SEGMENT_BYTES_MAX = 1_048_576;

export class AuditTrail {
  readonly #o: TrailOptions;
  readonly #segments: Segment[];
  readonly #segmentBytesMax: number;
  #writer: SegmentWriter | undefined;
  #head: Place = BEGIN;
  #isSigned = true;
  #isAnchorChecked = false;
  #signing: Promise<void> = Promise.resolve();

  constructor(options: TrailOptions) {
    this.#o = options;
    this.#segmentBytesMax = Math.min(SEGMENT_BYTES_MAX, Math.max(SEGMENT_BYTES_MIN, options.sizeBytesMax / 16));
    this.#segments = segmentsIn(options.directory);
    this.#open();
  }

  /** Where the chain ends. */
  get head(): Place {
    return this.#head;
  }

  /** What the retention clock said when the newest segment was begun; undefined where there is none. */
  get keptSeconds(): number | undefined {
    return this.#segments.at(-1)?.keptSeconds;
  }

  get sizeBytes(): number {
    return this.#segments.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  /** Whether all of it is under a signature of identity. */
  get isSigned(): boolean {
    return this.#isSigned;
  }

  /** Adds what a service noted; it is on the disk when this returns. TRACE_AUDIT_FULL. */
  add(service: string, entries: readonly AuditEntry[], dropped: number, seconds: number): void {
    const lines = entries.map(({ timeNs, count, ...said }) => ({
      ...said,
      time: timeOf(timeNs),
      service,
      ...(count > 1 ? { count } : {}),
    }));
    if (dropped > 0)
      lines.push(this.#own("audit.dropped", "denied", `${dropped} entries of ${service}`, { service, count: dropped }));
    this.#append(lines, seconds);
    this.#retain(seconds);
  }

  /** Has identity sign where the chain ends, and writes that down. Fails where identity is away. */
  checkpoint(signer: Signer, seconds: number): Promise<void> {
    const next = this.#signing.then(() => this.#checkpoint(signer, seconds));
    this.#signing = next.catch(() => undefined);
    return next;
  }

  /** Answers lines after a number, oldest first. */
  lines(after: number, limit: number): Found {
    const found: Found = { lines: [], newest: this.#head.n, damage: [] };
    const from = this.#segments.findLastIndex(({ first }) => first <= after + 1);
    for (const { name } of this.#segments.slice(Math.max(0, from))) {
      const { lines, damage } = readSegment(this.#o.directory, name, this.#o.key);
      const later = lines.filter((text) => (readLine(text)?.n ?? 0) > after);
      found.lines.push(...later.slice(0, limit - found.lines.length));
      if (later.length > 0 && found.lines.length === limit) break;
      found.damage.push(...damage);
    }
    return found;
  }

  /** Answers the newest lines that a test takes, oldest first; files are read one at a time, others get their turn between. */
  async search(takes: (line: AuditLine, text: string) => boolean, limit: number): Promise<Found> {
    const found: Found = { lines: [], newest: this.#head.n, damage: [] };
    for (const { name } of [...this.#segments].reverse()) {
      const { lines, damage } = readSegment(this.#o.directory, name, this.#o.key);
      found.damage.push(...damage);
      const taken = lines.filter((text) => {
        const line = readLine(text);
        return line !== undefined && takes(line, text);
      });
      found.lines.unshift(...taken.slice(-(limit - found.lines.length)));
      if (found.lines.length >= limit) break;
      await new Promise(setImmediate);
    }
    return found;
  }

  close(): void {
    this.#writer?.close();
    this.#writer = undefined;
  }

  /** Finds where the chain ends, and goes on there: in the last file if it is whole, beside it if it is damaged. */
  #open(): void {
    const { directory, key, log } = this.#o;
    for (const segment of [...this.#segments].reverse()) {
      const read = readSegment(directory, segment.name, key);
      const last = read.lines.at(-1);
      const isNewest = segment === this.#segments.at(-1);
      if (isNewest && read.torn !== undefined) {
        log.warn({ file: segment.name, byte: read.torn }, "an unfinished end of the audit trail was cut off");
        cutAt(directory, segment.name, read.torn);
        segment.sizeBytes = read.torn;
      } else if (read.damage.length > 0) log.error({ damage: read.damage }, "the audit trail is damaged");
      if (last === undefined) continue;
      const line = readLine(last);
      this.#head = { n: line?.n ?? segment.first, hash: hashOf(last) };
      this.#isSigned = line?.action === CHECKPOINT;
      const isWhole = read.damage.length === 0 || read.torn !== undefined;
      if (isNewest && isWhole) this.#writer = new SegmentWriter(directory, segment, key, read.frames);
      return;
    }
  }

  async #checkpoint(signer: Signer, seconds: number): Promise<void> {
    if (!this.#isAnchorChecked) this.#compare(await signer.anchor(), seconds);
    this.#isAnchorChecked = true;
    if (this.#isSigned) return;
    // What comes while identity signs is not under this signature: the checkpoint must follow the very line.
    const place = this.#head;
    const signature = await signer.sign(place);
    if (this.#head.n !== place.n) return this.#checkpoint(signer, seconds);
    this.#append([this.#own(CHECKPOINT, "done", `line ${place.n}`, { signature })], seconds);
    this.#isSigned = true;
  }

  /** Says in the trail itself where its end is not the one that identity had signed. */
  #compare(anchor: Place, seconds: number): void {
    const [text] = anchor.n === 0 ? [] : this.lines(anchor.n - 1, 1).lines;
    if (anchor.n === 0 || (text !== undefined && hashOf(text) === anchor.hash)) return;
    this.#o.log.error({ line: this.#head.n, signed: anchor.n }, "the end of the audit trail is missing or changed");
    const what = `the trail ended with line ${this.#head.n}; identity had signed another line ${anchor.n}`;
    this.#head = { n: Math.max(this.#head.n, anchor.n), hash: this.#head.hash };
    this.#append([this.#own(BROKEN, "denied", what, {})], seconds);
  }

  #own(
    action: string,
    outcome: AuditLine["outcome"],
    what: string,
    more: Partial<AuditLine>,
  ): Omit<AuditLine, "n" | "previous"> {
    return { time: new Date().toISOString(), service: "trace", action, outcome, who: "trace", what, ...more };
  }

  #append(lines: readonly Omit<AuditLine, "n" | "previous">[], seconds: number): void {
    for (let at = 0; at < lines.length; at += FRAME_LINES_MAX) {
      let head = this.#head;
      const texts = lines.slice(at, at + FRAME_LINES_MAX).map((line) => {
        const text = JSON.stringify({ n: head.n + 1, previous: head.hash, ...line });
        head = { n: head.n + 1, hash: hashOf(text) };
        return text;
      });
      this.#writable(seconds).add(texts);
      this.#head = head;
      this.#isSigned = false;
    }
  }

  #writable(seconds: number): SegmentWriter {
    const { directory, key } = this.#o;
    if (this.#writer && this.#writer.segment.sizeBytes < this.#segmentBytesMax) return this.#writer;
    this.#writer?.close();
    let kept = seconds;
    // Beside a damaged one that began with the same line.
    while (this.#segments.some(({ name }) => name === newSegment(this.#head.n + 1, kept).name)) kept++;
    const segment = newSegment(this.#head.n + 1, kept);
    this.#writer = new SegmentWriter(directory, segment, key);
    this.#segments.push(segment);
    return this.#writer;
  }

  /** Takes whole files from the old end, and first says so in the trail: where it begins from now on, and after which line. */
  #retain(seconds: number): void {
    const { directory, key, sizeBytesMax, keepSeconds } = this.#o;
    const gone: Segment[] = [];
    let left = this.sizeBytes;
    for (const [at, segment] of this.#segments.slice(0, -1).entries()) {
      // What is in a file is as old as the beginning of the next one, or older.
      if (left <= sizeBytesMax && this.#segments[at + 1].keptSeconds >= seconds - keepSeconds) break;
      left -= segment.sizeBytes;
      gone.push(segment);
    }
    if (gone.length === 0) return;
    const [text = ""] = readSegment(directory, this.#segments[gone.length].name, key).lines;
    const line = readLine(text);
    if (line) {
      const what = `lines before ${line.n}, ${gone.length} files, by age or size`;
      this.#append([this.#own(RETAINED, "done", what, { first: line.n, before: line.previous })], seconds);
    }
    for (const { name } of gone) removeSegment(directory, name);
    this.#segments.splice(0, gone.length);
  }
}

/** ISO 8601 with microseconds. */
function timeOf(timeNs: bigint): string {
  const micros = timeNs / 1000n;
  const text = new Date(Number(micros / 1000n)).toISOString();
  return `${text.slice(0, -1)}${String(micros % 1000n).padStart(3, "0")}Z`;
}
