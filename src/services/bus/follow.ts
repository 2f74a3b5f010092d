/**
 * Reads the journal for one follower: what it has not seen, then what comes; as fast as it takes, one item at a time.
 */
import { topicMatches } from "../../kernel/edgex.ts";
import { decodeBlocks, encodeBlocks, headOfBlocks } from "../../kernel/events/codec.ts";
import type { Forgotten } from "../../kernel/events/forgotten.ts";
import type { Journal, JournalRecord } from "../../kernel/journal/journal.ts";
import type { BusRecord, FollowItem } from "./api.ts";
import { KIND } from "./records.ts";
import { eventTopic } from "../../kernel/event-topic.ts";
import { isEventTopic } from "./topics.ts";

/** What one item holds unless the follower asks for less (or more, up to the frame's limit). */
const ITEM_BYTES_DEFAULT = 1024 * 1024;
const ITEM_BYTES_MAX = 4 * 1024 * 1024;
/** A follower to whom nothing of so many records mattered is told the position anyway, so that they may go. */
const SKIPPED_TOLD = 1024;

export interface FollowInput {
  readonly after: number;
  readonly bytesMax?: number;
  readonly topics?: readonly string[];
}

export async function* follow(
  { journal, forgotten }: { journal: Journal; forgotten: Forgotten },
  input: FollowInput,
  signal: AbortSignal,
): AsyncGenerator<FollowItem> {
  const bytesMax = Math.min(input.bytesMax ?? ITEM_BYTES_DEFAULT, ITEM_BYTES_MAX);
  const selection = new Selection(input.topics, forgotten);
  let after = input.after;
  let told = after;
  while (!signal.aborted) {
    const { records, next, gap } = await journal.read(after, { bytesMax, match: selection.match });
    const chosen = records.map((record) => selection.take(record)).filter((record) => record !== undefined);
    const isEnd = next <= after && gap === undefined;
    after = next;
    if (chosen.length > 0 || gap || after - told >= SKIPPED_TOLD) {
      told = after;
      yield { records: chosen, next: after, ...(gap ? { gap } : {}) };
    }
    if (isEnd || after >= journal.last) await sleep(journal, after, signal);
  }
}

async function sleep(journal: Journal, after: number, signal: AbortSignal): Promise<void> {
  try {
    await journal.wait(after, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** Which records a follower gets: all events, or what its filters match. */
class Selection {
  readonly #filters: readonly string[] | undefined;
  /** Every event topic matches. */
  readonly #allEvents: boolean;
  readonly #someEvents: boolean;

  readonly #forgotten: Forgotten;

  constructor(filters: readonly string[] | undefined, forgotten: Forgotten) {
    this.#filters = filters;
    this.#forgotten = forgotten;
    this.#allEvents = !filters || filters.some((f) => ["#", "edgex/#", "edgex/events/#"].includes(f));
    this.#someEvents = this.#allEvents || (filters ?? []).some((f) => mayMatchEvents(f));
  }

  // What only the events themselves tell (the topics of a batch's other series) is sorted out in `take`.
  readonly match = (kind: number, key: string): boolean =>
    kind === KIND.message ? this.#matches(key) && this.#filters !== undefined : this.#someEvents;

  #matches(topic: string): boolean {
    return this.#filters?.some((filter) => topicMatches(filter, topic)) ?? true;
  }

  take({ position, kind, key, payload: whole }: JournalRecord): BusRecord | undefined {
    if (kind === KIND.message) return { position, kind: "message", topic: key, payload: whole };
    const payload = this.#forgotten.strip(position, whole);
    if (!payload) return undefined;
    const base = key.split("/", 3).join("/");
    if (this.#allEvents)
      return {
        position,
        kind: "events",
        topic: payload === whole && isWhole(key) ? key : topicOf(payload, base),
        payload,
      };
    const topics = headOfBlocks(payload).map(({ publisher, series }) => eventTopic(publisher.name, series, base));
    const wanted = topics.map((topic) => this.#matches(topic));
    const first = topics[wanted.indexOf(true)];
    if (first === undefined) return undefined;
    if (wanted.every(Boolean)) return { position, kind: "events", topic: first, payload };
    return {
      position,
      kind: "events",
      topic: first,
      payload: encodeBlocks(decodeBlocks(payload).filter((_, i) => wanted[i])),
    };
  }
}

const isWhole = (key: string): boolean => isEventTopic(key) && key.split("/", 4).length === 4;

function topicOf(payload: Uint8Array, base: string): string {
  const head = headOfBlocks(payload)[0];
  return eventTopic(head.publisher.name, head.series, base).slice(0, 1024);
}

/** Tells whether a filter may match a topic below `edgex/events`. */
function mayMatchEvents(filter: string): boolean {
  const [first, second] = filter.split("/");
  if (first === "#" || (first !== "edgex" && first !== "+")) return first === "#";
  return second === "events" || second === "+" || second === "#";
}
