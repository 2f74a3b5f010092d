import assert from "node:assert/strict";
import { test } from "node:test";
import { callOf, edgeHouse, eventually, SetClock, temporary } from "../../../test/houses/edge.ts";
import { main as virtualMain } from "../../devices/virtual/main.ts";
import { newRequestId, newSpanId } from "../../kernel/call.ts";
import { eventId, publisherTag, readingId } from "../../kernel/events/ids.ts";
import type { Span } from "../../kernel/trace.ts";
import { main as busMain } from "../bus/main.ts";
import { main as commandMain } from "../core-command/main.ts";
import { coreCommand } from "../core-command/api.ts";
import { main as dataMain } from "../core-data/main.ts";
import { coreMetadata } from "../core-metadata/api.ts";
import { main as metadataMain } from "../core-metadata/main.ts";
import { trace } from "./api.ts";
import { main } from "./main.ts";

const NODE = "edge1";
const START_NS = 1_767_225_600_000_000_000n;

function span(service: string, operation: string, change: Partial<Span> = {}): Span {
  return { service, operation, spanId: newSpanId(), startNs: START_NS, durationUs: 10, status: 0, ...change };
}

async function start(
  t: Parameters<typeof edgeHouse>[0],
  options: { directory?: string; clock?: SetClock; config?: { keepHours?: number; sizeBytesMax?: number } } = {},
) {
  const house = edgeHouse(t, options.directory ?? temporary(t), options.clock ? { clock: options.clock } : {});
  await house.start(main, options.config ?? {});
  const asked = house.connect(trace, "gateway");
  return {
    house,
    record: (service: string, ...spans: Span[]) =>
      house.connect(trace, service).record({ body: { spans: [...spans] as never, dropped: 0 } }, callOf()),
    story: async (id: string) => (await asked.story({ id }, callOf())).spans.map((s) => `${s.service} ${s.operation}`),
    summary: async (minutes = 5) => (await asked.summary({ minutes }, callOf())).rows,
  };
}

const times = (p50Us: number, p90Us: number, p99Us: number, p999Us: number) => ({ p50Us, p90Us, p99Us, p999Us });
const range = (from: number, to: number) => [{ publisher: "device-x", epoch: 7, from, to }];
const tag = publisherTag(NODE, "device-x");

test("the story of a request is told over all services, in order, by its id in either form", async (t) => {
  const { record, story } = await start(t);
  const requestId = newRequestId();
  await record("core-command", span("core-command", "read", { requestId, startNs: START_NS + 5n, durationUs: 100 }));
  await record(
    "device-x",
    span("device-x", "read", { requestId, startNs: START_NS + 9n }),
    span("core-data", "forged", { requestId }),
  );
  await record("gateway", span("gateway", "GET", { requestId }), span("gateway", "GET", { requestId: newRequestId() }));
  const told = ["gateway GET", "core-command read", "device-x read"];
  assert.deepEqual(await story(requestId), told);
  assert.deepEqual(await story(requestId.replaceAll("-", "").toUpperCase()), told);
  await assert.rejects(story(newRequestId()), { code: "TRACE_UNKNOWN" });
  for (const bad of ["x", "'; --", "0".repeat(36), "%"]) await assert.rejects(story(bad), { code: "INPUT_INVALID" });
});

test("the story of an event is told by its id or a reading's, from steps that handled thousands at once", async (t) => {
  const { record, story } = await start(t);
  await record(
    "device-x",
    span("device-x", "send", { ranges: range(1, 1_000) }),
    span("device-x", "send", { ranges: range(1_001, 300_000), startNs: START_NS + 1n }),
  );
  await record("bus", span("bus", "append", { ranges: range(900, 1_100), startNs: START_NS + 2n }));
  await record(
    "pipeline",
    span("pipeline", "encode", {
      ranges: [{ publisher: "device-y", epoch: 7, from: 1, to: 9_999 }, ...range(5_000, 5_000)],
    }),
    span("cloud", "accept", { ranges: range(1, 2_000), startNs: START_NS + 3n }),
  );
  assert.deepEqual(await story(eventId(tag, 7, 1_000)), ["device-x send", "bus append", "cloud accept"]);
  assert.deepEqual(await story(readingId(tag, 7, 1_000, 3)), ["device-x send", "bus append", "cloud accept"]);
  assert.deepEqual(await story(eventId(tag, 7, 1_500)), ["device-x send", "cloud accept"]);
  assert.deepEqual(await story(eventId(tag, 7, 5_000)), ["pipeline encode", "device-x send"]);
  assert.deepEqual(await story(eventId(tag, 7, 150_000)), ["device-x send"], "in the middle of a wide range");
  await assert.rejects(story(eventId(tag, 8, 1_000)), { code: "TRACE_UNKNOWN" });
  await assert.rejects(story(eventId(tag, 7, 300_001)), { code: "TRACE_UNKNOWN" });
});

test("throughput is of the time since a node's first start, where that is the shorter one", async (t) => {
  const clock = new SetClock();
  const { house, record } = await start(t, { clock });
  const seconds = async () => (await house.connect(trace, "gateway").summary({ minutes: 5 }, callOf())).seconds;
  await record("bus", span("bus", "append"));
  clock.pass(30_000);
  assert.equal(await seconds(), 30);
  clock.pass(3_600_000);
  assert.equal(await seconds(), 330);
});

test("the summary counts, and its percentiles are those of the spans", async (t) => {
  const clock = new SetClock(Number(START_NS / 1_000_000n) + 60_000);
  const { record, summary } = await start(t, { clock });
  const spans = Array.from({ length: 100 }, (_, i) =>
    span("bus", "append", { durationUs: i + 1, status: i < 3 ? 503 : 0 }),
  );
  await record("bus", ...spans.reverse());
  await record(
    "gateway",
    span("gateway", "GET", { durationUs: 5 }),
    span("gateway", "GET", { startNs: START_NS - 3_600_000_000_000n }),
  );
  assert.deepEqual(await summary(), [
    { service: "bus", operation: "append", count: 100, errors: 3, ...times(50, 90, 99, 100), maxUs: 100, total: 100 },
    { service: "gateway", operation: "GET", count: 1, errors: 0, ...times(5, 5, 5, 5), maxUs: 5, total: 2 },
  ]);
  assert.equal((await summary(120))[1].count, 2);
});

test("spans go when they are too old or too many, not because a clock jumped, and a restart keeps the others", async (t) => {
  const directory = temporary(t);
  const clock = new SetClock();
  let house = await start(t, { directory, clock, config: { keepHours: 24, sizeBytesMax: 1_048_576 } });
  const first = newRequestId();
  await house.record("gateway", span("gateway", "GET", { requestId: first }));
  clock.set(clock.wallMs() + 10 * 365 * 86_400_000);
  clock.pass(3_600_000);
  await house.record("gateway", span("gateway", "GET", { requestId: newRequestId() }));
  assert.equal((await house.story(first)).length, 1, "ten years ahead");
  await house.house.stop();
  house = await start(t, { directory, clock: new SetClock(), config: { keepHours: 24, sizeBytesMax: 1_048_576 } });
  assert.equal((await house.story(first)).length, 1);
  await house.house.stop();
  const later = new SetClock();
  house = await start(t, { directory, clock: later, config: { keepHours: 24, sizeBytesMax: 1_048_576 } });
  for (let hour = 0; hour < 30; hour++) {
    later.pass(3_600_000);
    await house.record("gateway", span("gateway", "GET", { requestId: newRequestId() }));
  }
  await assert.rejects(house.story(first), { code: "TRACE_UNKNOWN" });
  const early = newRequestId();
  await house.record("gateway", span("gateway", "GET", { requestId: early }));
  for (let i = 0; i < 60; i++)
    await house.record(
      "gateway",
      ...Array.from({ length: 1_000 }, () => span("gateway", "GET", { requestId: newRequestId() })),
    );
  await assert.rejects(house.story(early), { code: "TRACE_UNKNOWN" });
  const newest = newRequestId();
  await house.record("gateway", span("gateway", "GET", { requestId: newest }));
  assert.equal((await house.story(newest)).length, 1);
});

test("a command that pushed an event and the event tell the same story, from the command to the store", async (t) => {
  const { house, record, story } = await start(t);
  await house.start(busMain);
  await house.start(metadataMain);
  await house.start(dataMain);
  await house.start(virtualMain, { interval: "1h" });
  await house.start(commandMain);
  await eventually(() => house.connect(coreMetadata, "gateway").deviceByName({ name: "virtual-1" }, callOf()));
  const requestId = newRequestId();
  const flags = { pushEvent: true, returnEvent: true, regexCmd: true };
  const read = house
    .connect(coreCommand, "gateway")
    .read({ name: "virtual-1", command: "Int8", ...flags }, callOf(requestId));
  const { event } = await read;
  // What a process ships by itself.
  const told = await eventually(async () => {
    for (const [name, local] of house.services) if (name !== "trace") await record(name, ...local.tracer.take());
    const steps = await story(requestId);
    return ["push", "send", "append", "keep"].every((step) => steps.some((s) => s.endsWith(step))) && steps;
  });
  assert.ok(
    told && told.includes("device-virtual push") && told.includes("bus append") && told.includes("core-data keep"),
    String(told),
  );
  assert.deepEqual(await story(event!.id), told);
  assert.deepEqual(await story(event!.readings[0].id!), told);
});
