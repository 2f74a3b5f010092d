/**
 * Keeps spans encrypted: what came just now in pieces, as it came; then in blocks of columns with a filter of what is in
 * them, and by the ranges of events that they tell of. What was acknowledged survives a kill.
 */
import { type Database, type DatabaseOptions, openDatabase } from "../../kernel/database.ts";
import type { Log } from "../../kernel/log.ts";
import type { Range } from "../../kernel/trace.ts";
import type { StoredSpan } from "./api.ts";
import { minuteOf, Periods } from "./latency/periods.ts";
import { Summary } from "./latency/summaries.ts";
import { decodeSpans, encodedParts, type Part } from "./spans/block.ts";
import { bloomOf, mayHold } from "./spans/bloom.ts";
import { type BlockHead, type BlockRow, prepare, SPAN_SCHEMA, type Statements } from "./spans/tables.ts";
import { passes, type SpanFilter, wordsOf, wordsWanted } from "./spans/words.ts";

export interface EventPlace {
  readonly publisher: string;
  readonly epoch: number;
  readonly sequence: number;
}

/** What came after a place in the order of coming; `missed` came too, but is no longer at hand in that order. */
export interface Newest {
  readonly spans: readonly StoredSpan[];
  readonly next: number;
  readonly missed: number;
}

export interface SpanStore {
  /** Where the damaged one went that it took the place of. */
  readonly replaced: Database["replaced"];
  /** Keeps spans; `seconds` is what the retention clock says. */
  add(spans: readonly StoredSpan[], seconds: number): void;
  /** Lists the spans of requests with an id, and those of strangers who called their request so. */
  ofId(id: string): StoredSpan[];
  ofEvent(place: EventPlace): StoredSpan[];
  /** Asks several things: a block that more than one of them needs is read once. */
  together<T>(ask: () => T): T;
  /** Every publisher that a range named, to find the one an event id's tag stands for. */
  publishers(): string[];
  /** Runs over the spans that pass, the newest block first, one block at a time: all of them are more than memory should hold. */
  search(filter: SpanFilter): Iterable<StoredSpan[]>;
  /** Lists what came after a place, in order of coming: 0 is as far back as can be, beyond the end is the end. */
  newest(after: number, spansMax: number): Newest;
  /** Sums up what began from one minute (since 1970) up to another. */
  summary(fromMinute: number, toMinute: number): Summary;
  /** Drops what was kept longest ago, until age and size fit; `beforeSeconds` is of the retention clock. */
  retain(beforeSeconds: number, sizeBytesMax: number): void;
  /** Of the database, free pages not counted. */
  readonly sizeBytes: number;
  readonly count: number;
  /** What the retention clock said when the newest span was kept; undefined where there is none. */
  readonly keptSeconds: number | undefined;
  close(): void;
}

/** A block is made of so many. */
const BLOCK_SPANS = 4_096;
/** So many of the newest stay as they came, for who follows them. */
const FOLLOWED_SPANS = 1_024;
/** Blocks that one question for an id or an event reads at the most: a hot one cannot make it read the whole store. */
const BLOCKS_MAX = 512;
/** Blocks that are held for the questions that are asked together: about 1.5 MB each. */
const HELD_MAX = 16;
/** Free pages given back to the file system at once. */
const SHRINK_PAGES = 256;
const PAGE_BYTES = 4_096;

interface Piece {
  readonly id: number;
  readonly kept: number;
  readonly spans: readonly StoredSpan[];
}
/** Opens the store. Errors are those of openDatabase. */
export function openSpanStore(options: { path: string; key: DatabaseOptions["key"]; log: Log }): SpanStore {
  return new SqliteSpans(openDatabase({ ...options, schema: { version: 2, migrations: ["", SPAN_SCHEMA] } }));
}

class SqliteSpans implements SpanStore {
  readonly replaced: Database["replaced"];
  readonly #db: Database;
  readonly #periods: Periods;
  readonly #statements: Statements;
  #tail: Piece[] = [];
  #tailSpans = 0;
  /** Of all that ever came, so many are no longer in the tail. */
  #left: number;
  #blockSpans: number;
  /** Blocks read for questions that are asked together. */
  #held: Map<number, StoredSpan[]> | undefined;

  constructor(db: Database) {
    this.#db = db;
    this.replaced = db.replaced;
    this.#periods = new Periods(db);
    this.#statements = prepare(db);
    this.#blockSpans = this.#statements.counted.get()!;
    // A follower of before a restart finds its place again, nearly.
    this.#left = this.#blockSpans;
    const pieces = db.prepare<{ id: number; kept: number; spans: Uint8Array }>("SELECT * FROM piece ORDER BY id").all();
    for (const { id, kept, spans } of pieces) this.#append({ id, kept, spans: decodeSpans(spans) });
  }

  get sizeBytes(): number {
    return this.#statements.pages.get()! * PAGE_BYTES;
  }

  get count(): number {
    return this.#blockSpans + this.#tailSpans;
  }

  get keptSeconds(): number | undefined {
    return this.#tail.at(-1)?.kept ?? this.#statements.newestKept.get();
  }

  add(spans: readonly StoredSpan[], seconds: number): void {
    if (spans.length === 0) return;
    const parts = encodedParts(spans);
    this.#db
      .transaction(() => {
        const pieces = parts.map(({ spans: part, bytes }) => ({
          id: Number(this.#statements.addPiece.run(seconds, bytes).lastInsertRowid),
          kept: seconds,
          spans: part,
        }));
        return pieces;
      })
      .forEach((piece) => this.#append(piece));
    if (this.#tailSpans >= BLOCK_SPANS + FOLLOWED_SPANS) this.#seal();
  }

  ofId(id: string): StoredSpan[] {
    const isIts = ({ requestId, link }: StoredSpan) => requestId === id || link?.split(" ").includes(id) === true;
    const blocks = this.#blocksWith([id], this.#statements.blooms.iterate());
    return [
      ...blocks
        .slice(0, BLOCKS_MAX)
        .reverse()
        .map((block) => this.#spansOf(block)),
      this.#tailed(),
    ]
      .flat()
      .filter(isIts);
  }

  ofEvent({ publisher, epoch, sequence }: EventPlace): StoredSpan[] {
    const isIn = (r: Range) => r.publisher === publisher && r.epoch === epoch && r.from <= sequence && sequence <= r.to;
    const blocks = this.#statements.byEvent.all(publisher, epoch, sequence, sequence, BLOCKS_MAX);
    return [...blocks.map((block) => this.#spansOf(block)), this.#tailed()]
      .flat()
      .filter(({ ranges }) => ranges?.some(isIn));
  }

  together<T>(ask: () => T): T {
    this.#held = new Map();
    try {
      return ask();
    } finally {
      this.#held = undefined;
    }
  }

  publishers(): string[] {
    const names = new Set(this.#statements.publishers.all());
    for (const { ranges = [] } of this.#tailed()) for (const { publisher } of ranges) names.add(publisher);
    return [...names];
  }

  *search(filter: SpanFilter): Iterable<StoredSpan[]> {
    yield this.#tailed().filter((span) => passes(span, filter));
    const { fromNs = 0n, toNs = 2n ** 63n - 1n, leastUs = 0 } = filter;
    // Listed at once: between two blocks others are written.
    const blocks = this.#blocksWith(wordsWanted(filter), this.#statements.within.iterate(fromNs, toNs, leastUs));
    for (const block of blocks) yield this.#spansOf(block).filter((span) => passes(span, filter));
  }

  newest(after: number, spansMax: number): Newest {
    const end = this.#left + this.#tailSpans;
    // Who names a place that is not yet begins at the end; so does one who has it from a store that was replaced.
    const from = Math.min(after, end);
    const at = Math.max(from, this.#left);
    const spans = this.#tailed().slice(at - this.#left, at - this.#left + spansMax);
    return { spans, next: at + spans.length, missed: from === 0 ? 0 : at - from };
  }

  summary(fromMinute: number, toMinute: number): Summary {
    const summary = new Summary();
    this.#periods.collect(summary, fromMinute, toMinute);
    for (const span of this.#tailed()) {
      const minute = minuteOf(span.startNs);
      if (minute >= fromMinute && minute < toMinute) summary.add(span);
    }
    return summary;
  }

  retain(beforeSeconds: number, sizeBytesMax: number): void {
    for (;;) {
      const [oldest, size] = [this.#statements.oldest.get(), this.sizeBytes];
      if (!oldest || (oldest.kept >= beforeSeconds && size <= sizeBytesMax)) break;
      this.#statements.drop.run(oldest.id);
      this.#blockSpans -= oldest.count;
    }
    const old = this.#tail.filter(({ kept }) => kept < beforeSeconds);
    if (old.length > 0) {
      this.#statements.dropPieces.run(old.at(-1)!.id);
      this.#forget(old);
    }
    this.#db.shrink(SHRINK_PAGES);
  }

  close(): void {
    this.#db.close();
  }

  /** Makes blocks of the oldest pieces, in one transaction with the summaries of what they tell. */
  #seal(): void {
    const pieces: Piece[] = [];
    let left = this.#tailSpans;
    for (const piece of this.#tail) {
      if (left - piece.spans.length < FOLLOWED_SPANS && pieces.length > 0) break;
      pieces.push(piece);
      left -= piece.spans.length;
    }
    const spans = pieces.flatMap((piece) => piece.spans);
    const last = pieces.at(-1)!;
    const parts = encodedParts(spans);
    this.#db.transaction(() => {
      for (const part of parts) this.#addBlock(part, last.kept);
      this.#periods.add(spans);
      this.#statements.dropPieces.run(last.id);
    });
    this.#blockSpans += spans.length;
    this.#forget(pieces);
  }

  #addBlock({ spans, bytes }: Part, kept: number): void {
    let [firstNs, lastNs, longestUs] = [spans[0].startNs, spans[0].startNs, 0];
    for (const { startNs, durationUs } of spans) {
      if (startNs < firstNs) firstNs = startNs;
      if (startNs > lastNs) lastNs = startNs;
      if (durationUs > longestUs) longestUs = durationUs;
    }
    const bloom = bloomOf(wordsOf(spans));
    const row: BlockRow = [kept, firstNs, lastNs, longestUs, spans.length, bloom, bytes];
    const block = Number(this.#statements.addBlock.run(...row).lastInsertRowid);
    for (const { publisher, epoch, from, to } of boundsOf(spans))
      this.#statements.addRange.run(publisher, epoch, to, from, block);
  }

  #blocksWith(words: readonly string[], heads: Iterable<BlockHead>): number[] {
    const blocks: number[] = [];
    for (const { id, bloom } of heads) if (words.every((word) => mayHold(bloom, word))) blocks.push(id);
    return blocks;
  }

  #spansOf(block: number): StoredSpan[] {
    const known = this.#held?.get(block);
    if (known) return known;
    const bytes = this.#statements.spans.get(block);
    const spans = bytes === undefined ? [] : decodeSpans(bytes);
    if (this.#held && this.#held.size < HELD_MAX) this.#held.set(block, spans);
    return spans;
  }

  #tailed(): StoredSpan[] {
    return this.#tail.flatMap(({ spans }) => spans);
  }

  #append(piece: Piece): void {
    this.#tail.push(piece);
    this.#tailSpans += piece.spans.length;
  }

  #forget(pieces: readonly Piece[]): void {
    const gone = pieces.reduce((sum, { spans }) => sum + spans.length, 0);
    this.#tail = this.#tail.slice(pieces.length);
    this.#tailSpans -= gone;
    this.#left += gone;
  }
}

/** For each publisher and epoch the range around all its events that are told of. */
function boundsOf(spans: readonly StoredSpan[]): Range[] {
  const bounds = new Map<string, Range>();
  for (const range of spans.flatMap(({ ranges }) => ranges ?? [])) {
    const key = `${range.epoch} ${range.publisher}`;
    const { from, to } = bounds.get(key) ?? range;
    bounds.set(key, { ...range, from: Math.min(from, range.from), to: Math.max(to, range.to) });
  }
  return [...bounds.values()];
}
