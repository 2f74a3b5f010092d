import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { temporary } from "../../../test/houses/edge.ts";
import type { Event } from "../../kernel/edgex.ts";
import { sliceBlock } from "../../kernel/events/blocks.ts";
import { rowToEvent } from "../../kernel/events/edgex.ts";
import { publisherTag, readingId } from "../../kernel/events/ids.ts";
import type { Block, Series, Value } from "../../kernel/events/model.ts";
import { makeLog } from "../../kernel/log.ts";
import { ChunkIndex } from "./chunk-index.ts";
import { EventQuery } from "./query.ts";
import { Remover } from "./remove.ts";
import type { Selection } from "./selection.ts";
import { EventStore } from "./store.ts";

const NODE = "edge1";
const log = makeLog("core-data", { level: "error" });

function open(directory: string) {
  const store = new EventStore({ path: join(directory, "events.db"), key: Buffer.alloc(32, 3), node: NODE, log });
  const chunks = new ChunkIndex(store);
  const query = new EventQuery(store, chunks);
  const settle = () => store.settle(1_000_000);
  return { store, query, settle, remover: new Remover({ store, chunks, query, settle }) };
}

/** A small generator with a seed, so that a failure comes again. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const seriesOf = (device: string, names: readonly string[]): Series => ({
  deviceName: device,
  profileName: "P",
  sourceName: names.join("+"),
  resources: names.map((name) => ({ name, valueType: "Int64" as const })),
});

const SERIES = [
  seriesOf("a", ["x"]),
  seriesOf("a", ["x", "y", "z"]),
  seriesOf("b", ["y"]),
  seriesOf("c", ["z", "w"]),
  ...Array.from({ length: 40 }, (_, i) => seriesOf(`many-${i}`, ["m"])),
];

/** Makes blocks as they come from the bus: origins not always in order, readings absent now and then, strangers' ids. */
class Source {
  readonly events: Event[] = [];
  readonly #random: (below: number) => number;
  readonly #sequences = new Map<string, number>();
  #foreign = 0;
  #origin = 1_700_000_000_000_000_000n;

  constructor(random: (below: number) => number) {
    this.#random = random;
  }

  block(rows: number): Block {
    const random = this.#random;
    const name = ["device-one", "device-two", "~rest"][random(3)];
    const epoch = 5 + random(2);
    const series = SERIES[random(3) > 0 ? random(4) : random(SERIES.length)];
    const key = `${name} ${epoch}`;
    const block: Block = {
      publisher: { name, epoch },
      series,
      sequences: [],
      origins: [],
      columns: series.resources.map((): Value[] => []),
      extras: new Map(),
    };
    for (let row = 0; row < rows; row++) {
      const sequence = (this.#sequences.get(key) ?? 0) + 1 + random(2);
      this.#sequences.set(key, sequence);
      this.#origin += BigInt(random(1_000));
      block.sequences.push(sequence);
      block.origins.push(this.#origin - (random(20) === 0 ? BigInt(random(50_000)) : 0n));
      for (const column of block.columns)
        column.push(random(12) === 0 ? undefined : random(10) === 0 ? null : random(1_000));
      if (name === "~rest") {
        const id = `00000000-0000-4000-8000-${String(++this.#foreign).padStart(12, "0")}`;
        block.extras.set(row, { ids: [id] });
      }
      this.events.push(rowToEvent(sliceBlock(block, row, row + 1), 0, publisherTag(NODE, name)));
    }
    return block;
  }
}

const newestFirst = (a: Event, b: Event) => (a.origin > b.origin ? -1 : a.origin < b.origin ? 1 : 0);

/** The same answers, the slow way. */
function expected(events: readonly Event[], { device, resources, start, end }: Selection) {
  const chosen = events
    .filter((e) => device === undefined || e.deviceName === device)
    .filter((e) => (start === undefined || e.origin >= start) && (end === undefined || e.origin <= end))
    .sort(newestFirst);
  const readings = chosen.flatMap((e) => e.readings.filter((r) => !resources || resources.includes(r.resourceName)));
  return { events: chosen, readings };
}

function sameAs(query: EventQuery, events: readonly Event[], random: (below: number) => number, times: number): void {
  const byId = new Map(events.map((e) => [e.id, e]));
  for (let i = 0; i < times; i++) {
    const selection: { -readonly [K in keyof Selection]: Selection[K] } = {};
    if (random(2) > 0) selection.device = ["a", "b", "c", "many-7", "nobody"][random(5)];
    if (random(3) === 0) selection.start = events[random(events.length)].origin;
    if (random(3) === 0) selection.end = events[random(events.length)].origin + BigInt(random(3));
    if (selection.start !== undefined && selection.end !== undefined && selection.start > selection.end)
      [selection.start, selection.end] = [selection.end, selection.start];
    const byEvents = expected(events, selection);
    const total = byEvents.events.length;
    const page = { offset: random(total + 1), limit: 1 + random(60) };
    const found = query.events(selection, page);
    const about = `${JSON.stringify(selection, (_, v: unknown) => (typeof v === "bigint" ? `${v}` : v))} from ${page.offset}`;
    assert.equal(found.totalCount, total, `events of ${about}`);
    // Of events with the same origin the order is free.
    assert.deepEqual(
      found.events.map((e) => e.origin),
      byEvents.events.slice(page.offset, page.offset + page.limit).map((e) => e.origin),
      `events of ${about}`,
    );
    for (const event of found.events) assert.deepEqual(event, byId.get(event.id));
    if (random(2) > 0) selection.resources = [["x"], ["y"], ["z"], ["w", "m"], ["none"]][random(5)];
    const { readings } = expected(events, selection);
    const from = random(readings.length + 1);
    const list = query.readings(selection, { offset: from, limit: page.limit });
    assert.equal(list.totalCount, readings.length, `readings of ${about}`);
    const upTo = readings.slice(from, from + page.limit);
    assert.deepEqual(
      list.readings.map((r) => r.origin),
      upTo.map((r) => r.origin),
      `readings of ${about} of ${String(selection.resources)} from ${from}`,
    );
  }
}

test("every question is answered as if all events were looked through", async (t) => {
  for (const seed of [1, 2]) {
    const random = seeded(seed);
    const directory = temporary(t);
    let edge = open(directory);
    const source = new Source(random);
    for (let position = 1; position <= 300; position++) {
      edge.store.add([source.block(1 + random(position % 50 === 0 ? 3_000 : 60))], position, 100);
      if (edge.store.tail.isFull || random(4) === 0) edge.settle();
      if (position % 60 === 0) sameAs(edge.query, source.events, random, 4);
      if (position % 110 === 0) {
        edge.settle();
        edge.store.close();
        edge = open(directory);
      }
    }
    sameAs(edge.query, source.events, random, 15);
    edge.store.close();
  }
});

test("an event is found by its id, by that of a reading, and by what a stranger called it, written or not", async (t) => {
  const random = seeded(9);
  const edge = open(temporary(t));
  const source = new Source(random);
  for (let position = 1; position <= 60; position++) {
    edge.store.add([source.block(40)], position, 100);
    assert.ok(edge.query.find(source.events.at(-1)!.id, false), "at once");
    if (position % 7 === 0) edge.settle();
  }
  for (const event of source.events) {
    const place = edge.query.find(event.id, false);
    assert.ok(place, event.id);
    assert.deepEqual(edge.query.eventAt(place), event);
    for (const reading of event.readings) {
      const of = edge.query.find(reading.id!, true);
      assert.ok(of && edge.query.eventAt(of).id === event.id);
      assert.equal(edge.query.find(reading.id!, false), undefined, "no event has a reading's id");
    }
  }
  const tag = publisherTag(NODE, "device-one");
  assert.equal(edge.query.find(readingId(tag, 5, 1_000_000, 0), true), undefined);
  assert.equal(edge.query.find(readingId(tag, 99, 1, 0), true), undefined);
  assert.equal(edge.query.find(source.events[0].readings[0].id!.replace(/...$/, "fff"), true), undefined);
  for (const odd of ["", "__proto__", "x".repeat(100), "00000000-0000-4000-8000-999999999999"])
    assert.equal(edge.query.find(odd, true), undefined);
  edge.store.close();
});

test("what is removed is gone from every answer, and nothing else is", async (t) => {
  const random = seeded(4);
  const directory = temporary(t);
  let edge = open(directory);
  const source = new Source(random);
  for (let position = 1; position <= 120; position++) {
    edge.store.add([source.block(1 + random(120))], position, 100);
    if (edge.store.tail.isFull || random(5) === 0) edge.settle();
  }
  let left = [...source.events];
  for (let i = 0; i < 20; i++) {
    const [gone] = left.splice(random(left.length), 1);
    assert.equal(edge.remover.one(gone.id), true);
    assert.equal(edge.remover.one(gone.id), false);
    assert.equal(edge.query.find(gone.id, true), undefined);
  }
  sameAs(edge.query, left, random, 10);
  await edge.remover.device("a");
  left = left.filter((e) => e.deviceName !== "a");
  sameAs(edge.query, left, random, 10);
  const middle = [...left].sort(newestFirst)[left.length >> 1].origin;
  await edge.remover.before(middle);
  left = left.filter((e) => e.origin >= middle);
  sameAs(edge.query, left, random, 15);
  edge.store.add([source.block(500)], 121, 100);
  left.push(...source.events.slice(-500));
  edge.settle();
  edge.store.close();
  edge = open(directory);
  sameAs(edge.query, left, random, 15);
  edge.store.close();
});

test("what was looked at before its chunk was joined with others is answered as it is now", (t) => {
  const edge = open(temporary(t));
  for (let sequence = 1; sequence <= 40; sequence++) {
    const block: Block = {
      publisher: { name: "device-one", epoch: 1 },
      series: SERIES[0],
      sequences: [sequence],
      origins: [BigInt(sequence)],
      columns: [[sequence]],
      extras: new Map(),
    };
    edge.store.add([block], sequence, 10);
    edge.settle();
    const { totalCount, readings } = edge.query.readings({}, { offset: 0, limit: 1_024 });
    assert.equal(totalCount, sequence);
    assert.deepEqual(
      readings.map((r) => Number(r.value)),
      Array.from({ length: sequence }, (_, i) => sequence - i),
    );
  }
  edge.store.close();
});

test("an id of a stranger is kept once, for ever, and free again when its event was removed", async (t) => {
  const directory = temporary(t);
  let edge = open(directory);
  const id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
  const block = (sequence: number, ids: readonly string[]): Block => ({
    publisher: { name: "~rest", epoch: 1 },
    series: SERIES[0],
    sequences: ids.map((_, i) => sequence + i),
    origins: ids.map(() => 5n),
    columns: [ids.map(() => 1)],
    extras: new Map(ids.map((each, i) => [i, { ids: [each] }])),
  });
  edge.store.add([block(1, [id, "no uuid", id])], 1, 10);
  assert.equal(edge.query.count({}, "events"), 2);
  edge.settle();
  edge.store.add([block(4, [id, "no uuid", "another"])], 2, 10);
  assert.equal(edge.query.count({}, "events"), 3);
  edge.settle();
  edge.store.close();
  edge = open(directory);
  edge.store.add([block(7, ["another", id])], 3, 10);
  assert.equal(edge.query.count({}, "events"), 3);
  assert.equal(edge.remover.one(id), true);
  edge.store.add([block(9, ["another", id])], 4, 10);
  assert.equal(edge.query.count({}, "events"), 3);
  assert.equal(edge.query.find(id, false)?.block.sequences[edge.query.find(id, false)!.row], 10);
  edge.store.close();
});
