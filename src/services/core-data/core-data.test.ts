import assert from "node:assert/strict";
import { test } from "node:test";
import { batch } from "../../../test/houses/bus.ts";
import { callOf, edgeHouse, eventually, temporary } from "../../../test/houses/edge.ts";
import { plainly } from "../../../test/houses/http.ts";
import { bus } from "../bus/api.ts";
import { main as busMain } from "../bus/main.ts";
import { coreData } from "./api.ts";
import { main } from "./main.ts";

type Json = Record<string, unknown>;
interface Listed extends Json {
  totalCount: number;
  events: (Json & { id: string; readings: Json[] })[];
  readings: Json[];
}

async function start(t: Parameters<typeof edgeHouse>[0]) {
  const house = edgeHouse(t, temporary(t));
  await house.start(busMain);
  const local = await house.start(main);
  const { ask } = await plainly(t, coreData, local.service);
  return {
    ask: <Body = Listed>(method: string, path: string, body?: unknown) => ask<Body>(method, `/api/v3${path}`, body),
    append: (blocks: Uint8Array) => house.connect(bus, "device-x").append({ body: { blocks } }, callOf()),
    /** Waits until so many events are there. */
    until: (n: number) =>
      eventually(async () => (await ask<{ Count: number }>("GET", "/api/v3/event/count")).body.Count === n),
  };
}

let ids = 0;
const uuid = () => `6ba7b810-9dad-41d1-80b4-${(++ids).toString(16).padStart(12, "0")}`;

/** An event as EdgeX's software sends it. */
function eventOf(readings: Json[], change: Json = {}): Json & { id: string } {
  const names = { deviceName: "d 1", profileName: "p" };
  return {
    apiVersion: "v3",
    id: uuid(),
    ...names,
    sourceName: "s",
    origin: 1_700_000_000_000_000_000,
    readings: readings.map((r) => ({ id: uuid(), origin: 1_700_000_000_000_000_000, ...names, ...r })),
    ...change,
  };
}
const body = (event: unknown) => JSON.stringify({ apiVersion: "v3", requestId: uuid(), event });
const path = "/event/svc/p/d%201/s";
const int = (value: string): Json => ({ resourceName: "r", valueType: "Int64", value });

test("an event that is posted is answered 201 with its id, comes over the bus, and is found to the character", async (t) => {
  const { ask, until } = await start(t);
  const cases: Json[] = [
    { valueType: "Bool", value: "true" },
    { valueType: "Int8", value: "-128" },
    { valueType: "Int64", value: "-9223372036854775808" },
    { valueType: "Uint64", value: "18446744073709551615" },
    { valueType: "Uint16", value: "007" },
    { valueType: "Float32", value: "1.500000e+00" },
    { valueType: "Float64", value: "0.1000" },
    { valueType: "Float64", value: "NaN" },
    { valueType: "String", value: 'Grüße \u0000 "quoted" 漢字' },
    { valueType: "String", value: "" },
    { valueType: "Int32", value: null },
    { valueType: "Binary", binaryValue: "AAEC/w==", mediaType: "image/png" },
    { valueType: "Object", objectValue: { a: [1, { b: null }], constructor: "x" } },
    { valueType: "ObjectArray", objectValue: [{ a: 1 }, { b: 2 }] },
    { valueType: "Int16Array", value: "[1, 2, -3]" },
    { valueType: "StringArray", value: '["a", "b"]' },
    { valueType: "BoolArray", value: "[true, false]" },
  ];
  const event = eventOf(
    cases.map((c, i) => ({
      resourceName: `r${i}`,
      units: i % 2 ? "C" : undefined,
      tags: i % 3 ? undefined : { k: i },
      ...c,
    })),
    { tags: { site: "north", deep: { n: 1 } } },
  );
  // Beyond 2^53, to the nanosecond.
  const sent = body(event).replaceAll("1700000000000000000", "1700000000123456789");
  const added = await ask<Json>("POST", path, sent);
  assert.deepEqual([added.status, added.body], [201, { apiVersion: "v3", statusCode: 201, id: event.id }]);
  await until(1);
  const { status, text, body: found } = await ask<{ event: Listed["events"][0] }>("GET", `/event/id/${event.id}`);
  assert.equal(status, 200);
  assert.ok(text.includes('"origin":1700000000123456789'), text);
  assert.ok(text.includes('"18446744073709551615"'));
  const readings = (event["readings"] as Json[]).map(
    ({ tags, units, ...r }) => JSON.parse(JSON.stringify({ ...r, tags, units })) as Json,
  );
  found.event.readings.forEach((r, i) => {
    const { origin, ...rest } = r;
    const { origin: _, ...want } = readings[i];
    if (want["value"] === null) Object.assign(want, { binaryValue: null, objectValue: null });
    assert.deepEqual(rest, want, `reading ${i}`);
    assert.ok(Number(origin) > 0);
  });
  assert.deepEqual(found.event["tags"], event["tags"]);
  const numeric = await ask("GET", "/reading/all?numeric=true&limit=-1");
  assert.ok(
    numeric.text.includes('"value":-9223372036854775808') && numeric.text.includes('"value":18446744073709551615'),
  );
  assert.ok(numeric.text.includes('"value":"NaN"') && numeric.text.includes('"value":0.1'));
});

test("an event that does not fit its path is refused with 400, one that comes again with 409", async (t) => {
  const { ask, until } = await start(t);
  const event = eventOf([int("1")]);
  for (const wrong of ["/event/svc/q/d%201/s", "/event/svc/p/d2/s", "/event/svc/p/d%201/other"]) {
    const { status, body: said } = await ask<Json>("POST", wrong, body(event));
    assert.equal(status, 400);
    assert.equal(said["code"], "DATA_EVENT_MISMATCHED");
  }
  for (const bad of [
    eventOf([]),
    eventOf([int("x")]),
    eventOf([int("9223372036854775808")]),
    eventOf([int("1")], { id: "not a uuid" }),
    eventOf([{ resourceName: "r", valueType: "Int63", value: "1" }]),
    eventOf([{ ...int("1"), deviceName: "other" }]),
    eventOf([int("1")], { origin: 1.5 }),
    eventOf([int("1")], { origin: 0 }),
    eventOf([{ resourceName: "r", valueType: "Binary", binaryValue: "!!", mediaType: "x/y" }]),
  ]) {
    const { status, text } = await ask("POST", path, body(bad));
    assert.equal(status, 400, `${text} for ${JSON.stringify(bad)}`);
  }
  assert.equal((await ask("POST", path, "{")).status, 400);
  assert.equal((await ask("POST", path, "[".repeat(10_000))).status, 400);
  assert.equal((await ask("POST", path, `"${"x".repeat(1_100_000)}"`)).status, 413);
  assert.equal((await ask("POST", path, body(event))).status, 201);
  const again = await ask<Json>("POST", path, body(event));
  assert.deepEqual([again.status, again.body["code"]], [409, "DATA_EVENT_DUPLICATE"]);
  await until(1);
});

test("lists are paged as EdgeX pages them", async (t) => {
  const { ask, append, until } = await start(t);
  const empty = await ask("GET", "/event/all?offset=7");
  assert.deepEqual(empty.body, { apiVersion: "v3", statusCode: 200, totalCount: 0, events: [] });
  assert.equal((await ask("GET", "/event/device/name/nobody?offset=3")).status, 200);
  await append(batch("device-x", 5, 1, 1_500, ["d/1", "__proto__", "µ"], 2));
  await until(1_500);
  const first = await ask("GET", "/event/all");
  assert.deepEqual([first.body.totalCount, first.body.events.length], [1_500, 20]);
  assert.deepEqual(
    first.body.events.map((e) => e.readings[0]["value"]),
    Array.from({ length: 20 }, (_, i) => e6(1_500 - i)),
  );
  assert.equal((await ask("GET", "/event/all?limit=-1")).body.events.length, 1_024);
  assert.equal((await ask("GET", "/event/all?limit=-1&offset=1000")).body.events.length, 500);
  assert.equal((await ask("GET", "/event/all?offset=1500")).body.events.length, 0);
  assert.equal((await ask("GET", "/event/all?offset=-1&limit=1")).body.totalCount, 1_500);
  const past = await ask<Json>("GET", "/event/all?offset=1501");
  assert.deepEqual([past.status, past.body["statusCode"], past.body["code"]], [416, 416, "DATA_RANGE"]);
  for (const bad of ["offset=-2", "limit=1025", "limit=-2", "limit=x", "offset=1.5", "offset=99999999999999999999"])
    assert.equal((await ask("GET", `/event/all?${bad}`)).status, 400, bad);
  for (const [name, count] of [
    ["d%2F1", 500],
    ["__proto__", 500],
    ["%C2%B5", 500],
    ["constructor", 0],
    ["%2F", 0],
  ] as const) {
    assert.equal((await ask("GET", `/event/device/name/${name}?limit=1`)).body.totalCount, count, name);
    assert.equal((await ask<Json>("GET", `/reading/count/device/name/${name}`)).body["Count"], 2 * count, name);
  }
  const time = (n: number) => String(1_700_000_000_000_000_000n + BigInt(n));
  assert.equal((await ask("GET", `/event/start/${time(100)}/end/${time(199)}`)).body.totalCount, 100);
  assert.equal((await ask("GET", `/reading/start/${time(100)}/end/${time(199)}`)).body.totalCount, 200);
  assert.equal((await ask("GET", `/reading/resourceName/r1/start/${time(100)}/end/${time(199)}`)).body.totalCount, 100);
  assert.equal(
    (await ask("GET", `/reading/device/name/__proto__/start/${time(1)}/end/${time(30)}`)).body.totalCount,
    20,
  );
  assert.equal(
    (await ask("GET", `/reading/device/name/__proto__/resourceName/r0/start/${time(1)}/end/${time(30)}`)).body
      .totalCount,
    10,
  );
  assert.equal((await ask("GET", "/reading/resourceName/none")).body.totalCount, 0);
  assert.equal((await ask<Json>("GET", `/event/start/${time(2)}/end/${time(1)}`)).body["code"], "DATA_TIME_INVALID");
  assert.equal((await ask("GET", "/event/start/x/end/1")).status, 400);
  assert.equal((await ask("GET", "/event/start/1/end/99999999999999999999")).status, 400);
});

/** As Go writes a float. */
const e6 = (n: number): string => {
  const [digits, power] = n.toExponential().split("e");
  return `${digits}e+${power.slice(1).padStart(2, "0")}`;
};

test("events are removed by id, by device and by age", async (t) => {
  const { ask, append, until } = await start(t);
  await append(batch("device-x", 5, 1, 300, ["d1", "d2"]));
  await until(300);
  const { events } = (await ask("GET", "/event/all?limit=2")).body;
  assert.deepEqual((await ask("DELETE", `/event/id/${events[0].id}`)).body, { apiVersion: "v3", statusCode: 200 });
  assert.equal((await ask("DELETE", `/event/id/${events[0].id}`)).status, 404);
  assert.equal((await ask("GET", `/event/id/${events[0].id}`)).status, 404);
  assert.equal((await ask("GET", `/event/id/${events[0].readings[0]["id"] as string}`)).status, 404);
  assert.equal(
    (await ask("DELETE", `/event/id/${events[1].readings[0]["id"] as string}`)).status,
    404,
    "a reading is no event",
  );
  assert.equal((await ask("GET", `/event/id/${events[1].readings[0]["id"] as string}`)).status, 200);
  await until(299);
  assert.equal((await ask("DELETE", "/event/device/name/d1")).status, 202);
  await until(150);
  assert.equal((await ask("DELETE", "/event/device/name/nobody")).status, 202);
  // They are of 2023: those younger than a year stay.
  const fresh = eventOf([int("1")], { origin: Date.now() * 1_000_000 });
  await ask("POST", path, body(fresh));
  await until(151);
  assert.equal((await ask("DELETE", "/event/age/-1")).status, 400);
  assert.equal((await ask("DELETE", `/event/age/${365n * 86_400_000_000_000n}`)).status, 202);
  await until(1);
  assert.equal((await ask("DELETE", "/event/age/0")).status, 202);
  await until(0);
});
