/** The store's promises: what went in comes out, found by whatever it has, in few bytes, after a kill too. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { createInterface } from "node:readline";
import { makeLog } from "../../kernel/log.ts";
import type { StoredSpan } from "./api.ts";
import { SpanMaker } from "./fixture.ts";
import { openSpanStore, type SpanStore } from "./store.ts";
import { decodeSpans, encodeSpans } from "./spans/block.ts";
import { bloomOf, mayHold } from "./spans/bloom.ts";

const START_NS = 1_790_000_000_000_000_000n;
const key = Buffer.alloc(32, 7);
const log = makeLog("trace", { level: "error", to: 2 });

function temporary(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-trace-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "spans.db");
}

/** Fills a store with so many spans, some hundred at a time as services ship them. */
function fill(store: SpanStore, count: number, seed = 1): StoredSpan[] {
  const maker = new SpanMaker(seed, START_NS);
  const all: StoredSpan[] = [];
  while (all.length < count) {
    const spans = Array.from({ length: 150 }, () => maker.next()).flat();
    store.add(spans, 1);
    all.push(...spans);
  }
  return all;
}

const ids = (spans: readonly StoredSpan[]) => spans.map(({ spanId }) => spanId).sort();

test("spans come out of a block as they went in, whatever they hold", () => {
  const maker = new SpanMaker(3, START_NS);
  const made = Array.from({ length: 500 }, () => maker.next()).flat();
  const odd: StoredSpan[] = [
    {
      spanId: "00000000000000aa",
      service: "",
      operation: "\ud800 half a pair",
      startNs: -5n,
      durationUs: 0,
      status: 0,
    },
    {
      spanId: "00000000000000ab",
      parentId: "00000000000000ab",
      service: "x",
      operation: "12.50",
      startNs: 2n ** 62n,
      durationUs: Number.MAX_SAFE_INTEGER,
      status: 599,
      note: "x".repeat(1024),
      ranges: [],
      retries: 3,
      queuedUs: 4,
      cache: "hit",
      link: "a b",
      bytes: 2 ** 40,
    },
    {
      spanId: "00000000000000ac",
      parentId: "00000000000000ff",
      service: "x",
      operation: "",
      startNs: START_NS,
      durationUs: 1,
      status: 0,
      ranges: [
        { publisher: "p", epoch: 1, from: 5, to: 9 },
        { publisher: "q", epoch: 2 ** 32, from: 0, to: 2 ** 41 },
      ],
    },
  ];
  for (const spans of [made, odd, [odd[1]], [...made, ...odd]]) {
    const back = new Map(decodeSpans(encodeSpans(spans)).map((span) => [span.spanId, span]));
    assert.equal(back.size, spans.length);
    for (const span of spans) assert.deepEqual(back.get(span.spanId), span);
  }
});

test("a block that is damaged fails in words, whatever byte it is", () => {
  const bytes = encodeSpans(
    Array.from(
      { length: 20 },
      (
        (maker) => () =>
          maker.next()
      )(new SpanMaker(4, START_NS)),
    ).flat(),
  );
  for (let at = 0; at < bytes.length; at++) {
    const torn = Uint8Array.from(bytes);
    torn[at] ^= 0xff;
    for (const bad of [torn, bytes.subarray(0, at)]) {
      try {
        decodeSpans(bad);
      } catch (error) {
        assert.equal((error as { code?: string }).code, "EVENTS_MALFORMED", String(error));
      }
    }
  }
});

test("a filter never denies a word it has, and seldom has one that it was not given", () => {
  const words = Array.from({ length: 4_000 }, (_, i) => `word ${i}`);
  const bloom = bloomOf(new Set(words));
  assert.ok(words.every((word) => mayHold(bloom, word)));
  const wrong = Array.from({ length: 20_000 }, (_, i) => `other ${i}`).filter((word) => mayHold(bloom, word)).length;
  assert.ok(wrong < 20_000 * 0.01, `${wrong} of 20,000`);
});

test("a span is found by its request, a stranger's id, its events, and what it is, in the tail and in the blocks", (t) => {
  const store = openSpanStore({ path: temporary(t), key, log });
  t.after(() => store.close());
  const linked = {
    ...fill(store, 1).find(({ requestId }) => requestId)!,
    spanId: "00000000000000aa",
    link: "their-1 their-2",
  };
  store.add([linked], 1);
  const all = [...fill(store, 12_000, 2)];
  assert.ok(store.count > 12_000);
  const known = new Set(ids(all));
  for (const span of [all[10], all[6_000], all.at(-10)!].flatMap((s) =>
    all.find((o) => o.requestId && o.startNs >= s.startNs)!,
  )) {
    const found = store.ofId(span.requestId!);
    assert.deepEqual(ids(found), ids(all.filter(({ requestId }) => requestId === span.requestId)));
  }
  assert.deepEqual(
    store.ofId("their-2").map(({ spanId }) => spanId),
    [linked.spanId],
  );
  for (const sequence of [1, 5_000, 20_000]) {
    const isIn = ({ ranges }: StoredSpan) =>
      ranges?.some(({ from, to }) => from <= sequence && sequence <= to) === true;
    const place = { publisher: "device-virtual", epoch: 1_900_000_000, sequence };
    const told = new Set(ids(store.ofEvent(place)));
    assert.ok(all.filter(isIn).every(({ spanId }) => told.has(spanId)));
    assert.deepEqual(store.ofEvent({ ...place, epoch: 1 }), []);
  }
  const filters = [
    { service: "bus" },
    { failed: true },
    { status: 503 },
    { device: "device-7" },
    { leastUs: 50_000 },
    { operation: "read", service: "core-data", text: "READ" },
    { text: "device_unk" },
    { fromNs: START_NS + 10_000_000_000n, toNs: START_NS + 20_000_000_000n },
  ];
  for (const filter of filters) {
    const found = [...store.search(filter)].flat().filter(({ spanId }) => known.has(spanId));
    const wanted = all.filter(
      (s) =>
        (!filter.service || s.service === filter.service) &&
        (!filter.operation || s.operation === filter.operation) &&
        (!filter.failed || s.status >= 400) &&
        (!filter.status || s.status === filter.status) &&
        (!filter.device || s.device === filter.device) &&
        (!filter.leastUs || s.durationUs >= filter.leastUs) &&
        (!filter.text || `${s.operation} ${s.note}`.toLowerCase().includes(filter.text.toLowerCase())) &&
        (!filter.fromNs || (s.startNs >= filter.fromNs && s.startNs <= filter.toNs)),
    );
    assert.ok(wanted.length > 0, JSON.stringify(Object.keys(filter)));
    assert.deepEqual(ids(found), ids(wanted), Object.keys(filter).join());
  }
});

test("who follows gets what came since, in order, and hears of what he missed", (t) => {
  const path = temporary(t);
  let store = openSpanStore({ path, key, log });
  const first = fill(store, 500);
  const seen = store.newest(0, 10_000);
  assert.deepEqual([seen.spans.map((s) => s.spanId), seen.missed], [first.map((s) => s.spanId), 0]);
  const more = fill(store, 300, 2);
  const page = store.newest(seen.next, 100);
  assert.deepEqual(
    page.spans.map((s) => s.spanId),
    more.slice(0, 100).map((s) => s.spanId),
  );
  fill(store, 12_000, 3);
  const late = store.newest(page.next, 1);
  assert.ok(late.missed > 5_000);
  const end = store.newest(late.next, 100_000).next;
  store.close();
  store = openSpanStore({ path, key, log });
  t.after(() => store.close());
  assert.deepEqual(store.newest(end, 10), { spans: [], next: end, missed: 0 }, "after a restart too");
});

test("a span takes less than 40 bytes of the disk, filters and summaries included", (t) => {
  const path = temporary(t);
  const store = openSpanStore({ path, key, log });
  const spans = fill(store, 30_000);
  store.close();
  const bytes = statSync(path).size / spans.length;
  t.diagnostic(`${bytes.toFixed(1)} bytes a span`);
  assert.ok(bytes < 40, `${bytes} bytes a span`);
});

test("a kill loses no span that was acknowledged, and what is summed up is what is kept", async (t) => {
  const path = temporary(t);
  for (let round = 1; round <= 2; round++) {
    const script = join(import.meta.dirname, "crash.child.ts");
    const child = spawn(process.execPath, [script, import.meta.resolve("./store.ts"), path, String(round)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let said = 0;
    const enough = 7_000 * round;
    for await (const line of createInterface({ input: child.stdout })) {
      said = Number(line);
      if (said > enough && !child.killed) child.kill("SIGKILL");
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    const store = openSpanStore({ path, key, log });
    assert.ok(store.count >= said, `${store.count} of ${said}`);
    const found = [...store.search({})].reduce((sum, part) => sum + part.length, 0);
    assert.equal(found, store.count);
    let counted = 0;
    for (const { took } of store.summary(0, 2 ** 40).actions) counted += took.count;
    assert.equal(counted, store.count);
    store.close();
  }
});

test("what is asked together is answered as one by one, from blocks that are read once; nothing is held afterwards", (t) => {
  const store = openSpanStore({ path: temporary(t), key, log });
  t.after(() => store.close());
  const all = fill(store, 12_000);
  const wanted = [...new Set(all.slice(0, 400).flatMap(({ requestId }) => requestId ?? []))].slice(0, 8);
  const alone = wanted.map((id) => store.ofId(id));
  assert.ok(alone.every((spans) => spans.length > 0));
  const [first, second] = store.together(() => [
    wanted.map((id) => store.ofId(id)),
    wanted.map((id) => store.ofId(id)),
  ]);
  assert.deepEqual(first, alone);
  // The very same: nobody read them again.
  assert.ok(second.every((spans, i) => spans.every((span, k) => span === first[i][k])));
  assert.throws(() => store.together(() => assert.fail("an error goes through")), /goes through/);
  assert.notEqual(store.ofId(wanted[0])[0], first[0][0]);
});
