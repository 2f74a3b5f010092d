/** The way of one reading: the sentences of the story, in order, on real processes. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { request } from "node:https";
import { after, before, test } from "node:test";
import { Whole } from "./houses/whole.ts";

const house = new Whole({ config: "device-host: { deviceName: box, interval: 1s }\n" });
before(() => house.start());
after(() => house.remove());

interface Reading {
  readonly id: string;
  readonly origin: number;
  readonly deviceName: string;
  readonly resourceName: string;
  readonly value: string;
}
interface Span {
  readonly service: string;
  readonly operation: string;
  readonly startNs: number;
  readonly status: number;
}

let reading: Reading;
let spans: Span[];
const step = (service: string, operation: string) =>
  spans.find((s) => s.service === service && s.operation === operation);

test("a device service reads a value and makes an event of readings", async () => {
  await house.until(async () => {
    const { readings } = await house.json<{ readings: Reading[] }>("readings", "box", "--resource", "MemoryAvailable");
    if (readings.length > 0) reading = readings[0]!;
    return readings.length > 0;
  }, "a reading of the machine's memory");
  const available = Number(readFileSync("/proc/meminfo", "utf8").match(/MemAvailable: +(\d+)/)?.[1]) * 1024;
  assert.ok(Math.abs(Number(reading.value) - available) < available / 2, `${reading.value} against ${available}`);
  assert.equal(reading.deviceName, "box");
});

test("it appends the event to the bus", async () => {
  await house.until(async () => {
    ({ spans } = await house.json<{ spans: Span[] }>("trace", reading.id));
    return step("cloud", "accept") !== undefined;
  }, "the reading's story to reach the cloud");
  assert.ok(step("device-host", "read"));
  assert.ok(step("device-host", "send"));
});

test("the bus writes it to the journal", () => {
  assert.equal(step("bus", "append")?.status, 0);
});

test("core-data follows the bus and keeps it queryable", () => {
  assert.ok(step("core-data", "keep"));
});

test("a pipeline follows the bus, and encodes a batch", () => {
  assert.ok(step("pipeline", "encode"));
});

test("the outbox holds the batch", () => {
  assert.ok(step("pipeline", "queue"));
});

test("the uplink drains the outbox", () => {
  assert.ok(step("pipeline", "send"));
});

test("the cloud keeps each batch exactly once, and acknowledges", async () => {
  assert.ok(step("cloud", "accept"));
  const { edges } = await house.json<{ edges: { edge: string; readings: number }[] }>("cloud", "edges");
  assert.equal(edges.length, 1);
  assert.ok(edges[0].readings > 0);
  const { publishers } = await house.json<{
    publishers: { duplicates: number; outOfOrder: number; ranges: object[] }[];
  }>("cloud", "audit", edges[0].edge);
  for (const { duplicates, outOfOrder, ranges } of publishers) {
    assert.equal(duplicates, 0);
    assert.equal(outOfOrder, 0);
    assert.equal(ranges.length, 1);
  }
});

test("a person asks the gateway for the device's latest readings", async () => {
  const token = (await house.text("token")).trim();
  const ca = await house.text("ca");
  const path = "/core-data/api/v3/reading/device/name/box?limit=3";
  const ask = (headers: Record<string, string>) =>
    new Promise<{ status: number; headers: NodeJS.Dict<string | string[]>; body: string }>((resolve, reject) => {
      request(
        { host: "127.0.0.1", port: house.gatewayPort, path, ca, headers, servername: "localhost" },
        (response) => {
          let body = "";
          response.setEncoding("utf8").on("data", (part: string) => (body += part));
          response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }));
        },
      )
        .on("error", reject)
        .end();
    });
  const answered = await ask({ authorization: `Bearer ${token}` });
  assert.equal(answered.status, 200);
  const { statusCode, readings } = JSON.parse(answered.body) as { statusCode: number; readings: Reading[] };
  assert.equal(statusCode, 200);
  assert.equal(readings.length, 3);
  assert.match(String(answered.headers["x-request-id"]), /^[0-9a-f-]{36}$/);
  const refused = await ask({});
  assert.equal(refused.status, 401);
  assert.equal((JSON.parse(refused.body) as { code: string }).code, "GATEWAY_TOKEN_MISSING");
});

test("every step tells the same story of it, in order of time", () => {
  const order = [
    step("device-host", "read"),
    step("bus", "append"),
    step("pipeline", "queue"),
    step("cloud", "accept"),
  ];
  const times = order.map((s) => s!.startNs);
  assert.deepEqual(
    times,
    times.toSorted((a, b) => a - b),
  );
});
