/** How the story of a request, an event or a reading is gathered from spans. */
import { asUuid, readRequestId } from "../../kernel/call.ts";
import { fail, INPUT_INVALID } from "../../kernel/error.ts";
import { eventId, parseId, publisherTag } from "../../kernel/events/ids.ts";
import { type StoredSpan, TRACE_UNKNOWN } from "./api.ts";
import type { EventPlace, SpanStore } from "./store.ts";

/** Events that one request's story follows on: a command that pushed many is told by its first. */
const EVENTS_FOLLOWED_MAX = 16;
/** Requests that one story gathers: those that a stranger gave the same id, those that asked for the same event. */
const REQUESTS_FOLLOWED_MAX = 16;
/** Steps that are told; of a longer story the first ones. */
const STEPS_MAX = 5_000;

export interface Story {
  readonly requestId: string;
  readonly spans: StoredSpan[];
  /** So many later steps are not told. */
  readonly left: number;
}

export class Stories {
  readonly #store: SpanStore;
  readonly #node: string;
  readonly #publishers = new Map<number, string>();

  constructor(store: SpanStore, node: string) {
    this.#store = store;
    this.#node = node;
  }

  /** Tells the story of an id, a UUID or 32 hex digits. INPUT_INVALID; TRACE_UNKNOWN where there are no spans. */
  of(id: string): Story {
    const bare = id.trim().toLowerCase();
    const wanted = readRequestId(/^[0-9a-f]{32}$/.test(bare) ? asUuid(bare) : bare);
    if (!wanted) {
      const what = `'${id.slice(0, 100)}' is not a request, event or reading id (a UUID, or 32 hex digits)`;
      throw fail(INPUT_INVALID, what);
    }
    const place = this.#placeOf(wanted);
    const found = new Map<string, StoredSpan>();
    const take = (spans: readonly StoredSpan[]) => spans.forEach((span) => found.set(span.spanId, span));
    this.#store.together(() => (place ? this.#ofEvent(place, take, found) : this.#ofRequest(wanted, take, found)));
    if (found.size === 0) throw fail(TRACE_UNKNOWN, `nothing is known of '${wanted}'`);
    const told = [...found.values()].sort(byStart);
    return { requestId: wanted, spans: told.slice(0, STEPS_MAX), left: Math.max(0, told.length - STEPS_MAX) };
  }

  #ofEvent(place: EventPlace, take: (spans: StoredSpan[]) => void, found: ReadonlyMap<string, StoredSpan>): void {
    take(this.#store.ofId(eventId(publisherTag(this.#node, place.publisher), place.epoch, place.sequence)));
    take(this.#store.ofEvent(place));
    // An event that a command asked for: the command's own steps belong to its story.
    for (const asked of requestsOf(found)) take(this.#store.ofId(asked));
  }

  #ofRequest(wanted: string, take: (spans: StoredSpan[]) => void, found: ReadonlyMap<string, StoredSpan>): void {
    take(this.#store.ofId(wanted));
    // The id was a stranger's: the story is that of what he asked for under it.
    for (const linked of requestsOf(found)) if (linked !== wanted) take(this.#store.ofId(linked));
    const pushed = [...found.values()].flatMap(placesOf).slice(0, EVENTS_FOLLOWED_MAX);
    for (const place of pushed) take(this.#store.ofEvent(place));
  }

  /** The place of an event or reading by its derived id; undefined where the id is a request's own. */
  #placeOf(id: string): EventPlace | undefined {
    const parsed = parseId(id);
    if (!parsed) return undefined;
    if (!this.#publishers.has(parsed.tag))
      for (const name of this.#store.publishers()) this.#publishers.set(publisherTag(this.#node, name), name);
    const publisher = this.#publishers.get(parsed.tag);
    return publisher === undefined ? undefined : { publisher, epoch: parsed.epoch, sequence: parsed.sequence };
  }
}

const requestsOf = (found: ReadonlyMap<string, StoredSpan>): string[] =>
  [...new Set([...found.values()].flatMap(({ requestId }) => requestId ?? []))].slice(-REQUESTS_FOLLOWED_MAX);

const placesOf = ({ ranges = [] }: StoredSpan): EventPlace[] =>
  ranges.map(({ publisher, epoch, from }) => ({ publisher, epoch, sequence: from }));

const byStart = (a: StoredSpan, b: StoredSpan): number =>
  a.startNs < b.startNs ? -1 : a.startNs > b.startNs ? 1 : b.durationUs - a.durationUs;
