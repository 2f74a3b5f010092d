import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { allEvents, seriesOf, span } from "../../../test/houses/bus.ts";
import { callOf, edgeHouse, eventually, temporary } from "../../../test/houses/edge.ts";
import { systemClock } from "../../kernel/clock.ts";
import type { Value } from "../../kernel/events/model.ts";
import { makeLog } from "../../kernel/log.ts";
import { Tracer } from "../../kernel/trace.ts";
import { type Bus, bus } from "../../services/bus/api.ts";
import { main as busMain } from "../../services/bus/main.ts";
import { EventPublisher, WAITING_ROWS_MAX } from "./publisher.ts";

const NAME = "device-test";
type Test = Parameters<typeof edgeHouse>[0];

/** A house with a bus that can be stopped and started, and a publisher; `between` may meddle with what goes to the bus. */
function start(t: Test, between: (client: Bus) => Bus = (client) => client) {
  const house = edgeHouse(t, temporary(t));
  const stopping = new AbortController();
  const tracer = new Tracer(NAME, systemClock);
  const publisher = new EventPublisher({
    publisher: { name: NAME, epoch: 3 },
    bus: between(house.connect(bus, NAME)),
    clock: systemClock,
    log: makeLog(NAME, { to: new PassThrough().resume() }),
    tracer,
    signal: stopping.signal,
  });
  t.after(async () => {
    stopping.abort();
    await publisher.stopped();
  });
  const series = ["d1", "d2", "d3"].map((name) => seriesOf(name));
  let sent = 0;
  return {
    publisher,
    tracer,
    house,
    openBus: () => house.start(busMain),
    shutBus: () => house.services.get("bus")!.stop(),
    emit: (count: number) => {
      let last = publisher.emit(series[sent % 3], BigInt(++sent), [sent]);
      for (let i = 1; i < count; i++) last = publisher.emit(series[sent % 3], BigInt(++sent), [sent]);
      return last;
    },
    kept: async () =>
      (await allEvents(house.connect(bus, "core-data"), "core-data")).sort((a, b) => numberOf(a) - numberOf(b)),
    batches: async () => (await house.connect(bus, "core-data").backlog({}, callOf())).last,
  };
}
const numberOf = (event: string) => Number(event.split("/")[2]);

test("events gather while a batch is under way, and one alone waits for nothing", async (t) => {
  const { emit, openBus, kept, batches, publisher, tracer } = start(t);
  await openBus();
  await emit(1).durable;
  assert.equal(await batches(), 1);
  for (let i = 0; i < 2_000; i++) emit(1);
  await emit(1).durable;
  assert.deepEqual(await kept(), span(NAME, 3, 1, 2_002));
  assert.ok((await batches()) < 10, `${await batches()} batches`);
  await eventually(() => publisher.acknowledged === 2_002);
  const steps = tracer.take().filter((s) => s.operation === "send");
  assert.deepEqual([steps[0].ranges?.[0].from, steps.at(-1)!.ranges?.[0].to], [1, 2_002]);
});

test("what a bus that went did not acknowledge is sent again to the next one, none lost and none twice", async (t) => {
  const { emit, openBus, shutBus, kept } = start(t);
  let last = emit(500);
  for (let round = 0; round < 4; round++) {
    await openBus();
    for (let i = 0; i < 50; i++) {
      last = emit(20);
      if (i % 10 === 0) await new Promise(setImmediate);
    }
    await shutBus();
    last = emit(100);
  }
  await openBus();
  await last.durable;
  assert.deepEqual(await kept(), span(NAME, 3, 1, 500 + 4 * 1_100));
});

test("an acknowledgement that is lost makes nothing twice", async (t) => {
  let lost = 0;
  const { emit, openBus, kept } = start(t, (client) => ({
    ...client,
    append: async (input, call) => {
      const answer = await client.append(input, call);
      if (lost++ % 2 === 0) throw new Error("the answer was lost");
      return answer;
    },
  }));
  await openBus();
  let last = emit(1);
  for (let i = 0; i < 20; i++) {
    last = emit(10);
    await new Promise(setImmediate);
  }
  await last.durable;
  assert.deepEqual(await kept(), span(NAME, 3, 1, 201));
  assert.ok(lost >= 4);
});

test("when much waits it says so, by events and by bytes, and there is room again when it went", async (t) => {
  const { emit, openBus, publisher, kept } = start(t);
  emit(WAITING_ROWS_MAX - 1);
  assert.equal(publisher.full, false);
  emit(1);
  assert.equal(publisher.full, true);
  await openBus();
  await publisher.room();
  assert.equal(publisher.full, false);
  await eventually(() => publisher.waiting === 0);
  assert.equal((await kept()).length, WAITING_ROWS_MAX);
  const blob = { ...seriesOf("d1"), resources: [{ name: "b", valueType: "Binary" as const, mediaType: "x/y" }] };
  let count = 0;
  for (; !publisher.full && count < 1_000; count++) publisher.emit(blob, 1n, [new Uint8Array(500_000)]);
  assert.ok(count < 100, `${count} large events in memory`);
  await eventually(() => publisher.waiting === 0);
});

test("what can never be sent is given up, and what comes after it goes on", async (t) => {
  const { emit, openBus, publisher, kept } = start(t);
  await openBus();
  assert.throws(() => publisher.emit(seriesOf("d1"), 1n, [1, 2]), RangeError);
  await emit(1).durable;
  publisher.emit(seriesOf("d1"), 2n ** 70n, [1]);
  await new Promise(setImmediate);
  publisher.emit(seriesOf("d1"), 1n, [(() => undefined) as unknown as Value]);
  await eventually(() => publisher.waiting === 0);
  await emit(5).durable;
  const events = await kept();
  assert.deepEqual(
    [events[0], ...events.slice(-5)],
    [`${NAME}/3/1`, ...span(NAME, 3, numberOf(events.at(-1)!) - 4, numberOf(events.at(-1)!))],
  );
});

test("at the end it sends what waits, and is not kept by a bus that is away", async (t) => {
  const { emit, openBus, shutBus, publisher, kept } = start(t);
  await openBus();
  emit(3_000);
  await publisher.flush(5_000);
  assert.equal((await kept()).length, 3_000);
  await shutBus();
  emit(10);
  const startedMs = performance.now();
  await publisher.flush(50);
  assert.ok(performance.now() - startedMs < 1_000);
  assert.equal(publisher.waiting, 10);
});
