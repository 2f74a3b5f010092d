import assert from "node:assert/strict";
import { Agent } from "node:http";
import { after, test } from "node:test";
import fc from "fast-check";
import { Type } from "typebox";
import { makeCall } from "./call.ts";
import { decodeCbor, encodeCbor } from "./cbor.ts";
import { systemClock } from "./clock.ts";
import { connect } from "./connect.ts";
import { contract, get, post, stream } from "./contract.ts";
import { Failure } from "./error.ts";
import { makeLog } from "./log.ts";
import { digestKept, termsOf } from "./names.ts";
import { serve } from "./serve.ts";
import { Tracer } from "./trace.ts";

const Reading = Type.Object({ resourceName: Type.String(), value: Type.Union([Type.Number(), Type.Null()]) });
const Event = Type.Object({
  deviceName: Type.String(),
  readings: Type.Array(Reading),
  tags: Type.Optional(Type.Record(Type.String(), Type.Object({ unitOfTag: Type.String() }))),
});
const made = (more: object = {}) =>
  contract(
    "mirror",
    {
      mirror: post("/mirror", { input: { body: Event }, output: Event, callers: ["cli"], ...more }),
      nothing: get("/nothing", { input: {}, output: Type.Object({}), callers: ["cli"] }),
      mirrors: stream("/mirrors", { input: { event: Event, times: Type.Integer() }, output: Event, callers: ["cli"] }),
    },
    { edgex: true },
  );
const own = made();
const event = {
  deviceName: "pump-1",
  readings: [
    { resourceName: "Pressure", value: 1.5 },
    { resourceName: "resourceName", value: null },
  ],
  // Names of a record are its user's.
  tags: { deviceName: { unitOfTag: "bar" }, place: { unitOfTag: "no such" } },
};

const agent = new Agent({ keepAlive: true });
const log = makeLog("mirror", { to: { write: () => undefined } });
const seen: { requestId: string }[] = [];
const served = await serve({
  contract: own,
  service: {
    mirror: async ({ body }, call) => {
      seen.push(call);
      return body;
    },
    nothing: async () => ({}),
    async *mirrors({ event: of, times }) {
      for (let i = 0; i < times; i++) yield of;
    },
  },
  listen: { host: "127.0.0.1", port: 0 },
  plainCaller: "cli",
  log,
  clock: systemClock,
  tracer: new Tracer("mirror", systemClock),
});
after(async () => {
  agent.destroy();
  await served.close();
});
const url = `http://127.0.0.1:${served.port}/mirror`;
const clientOf = (of: typeof own, digest: string | undefined) => {
  const target = { host: served.host, port: served.port, agent, secure: false, digest };
  return connect(of, { resolver: { pick: () => target, failed: () => undefined } });
};
const calling = () => makeCall({ caller: "cli", timeoutMs: 5_000 });

test("who has the same contract gets numbers for its names, and reads what was sent: values, streams, and no names", async () => {
  const client = clientOf(own, digestKept(own));
  const call = calling();
  assert.partialDeepStrictEqual(await client.mirror({ body: event }, call), event);
  assert.equal(seen.at(-1)!.requestId, call.requestId);
  assert.partialDeepStrictEqual(await client.nothing({}, calling()), { apiVersion: "v3" });
  const items: unknown[] = [];
  for await (const item of client.mirrors({ event, times: 3 }, calling())) items.push(item);
  assert.deepEqual(items, [event, event, event]);
  const { type, body, answer } = termsOf(own, own.operations.mirror);
  const asked = { method: "POST", headers: { accept: type, "content-type": type }, body: encodeCbor(event, body.ids) };
  const answered = await fetch(url, asked);
  assert.equal(answered.headers.get("content-type"), type);
  assert.equal(answered.headers.get("x-request-id"), null, "who asked knows it");
  const bytes = Buffer.from(await answered.arrayBuffer());
  for (const name of ["apiVersion", "readings", "unitOfTag"]) assert.ok(!bytes.includes(name), name);
  assert.ok(bytes.includes("place"), "a record's key");
  assert.deepEqual(decodeCbor(bytes, { names: answer.list }), { apiVersion: "v3", statusCode: 200, ...event });
  assert.ok(bytes.length < 0.75 * encodeCbor({ apiVersion: "v3", statusCode: 200, ...event }).length);
});

test("who has another contract, or does not know which, is spoken to by names", async () => {
  const other = made({ summary: "Another release." });
  assert.notEqual(digestKept(other), digestKept(own));
  for (const client of [clientOf(own, undefined), clientOf(other, digestKept(own)), clientOf(own, digestKept(other))])
    assert.partialDeepStrictEqual(await client.mirror({ body: event }, calling()), event);
  const { type } = termsOf(other, other.operations.mirror);
  const headers = { accept: type, "content-type": "application/json" };
  const byNames = await fetch(url, { method: "POST", headers, body: JSON.stringify(event) });
  assert.equal(byNames.headers.get("content-type"), "application/cbor");
  const refused = await fetch(url, { method: "POST", headers: { "content-type": type }, body: encodeCbor({ 0: "x" }) });
  assert.deepEqual([refused.status, ((await refused.json()) as { code: string }).code], [415, "MEDIA_TYPE_UNKNOWN"]);
});

test("a failure is told by names to everybody", async () => {
  const wrong = { ...event, deviceName: 7 as never };
  await assert.rejects(clientOf(own, digestKept(own)).mirror({ body: wrong }, calling()), { code: "INPUT_INVALID" });
});

test("numbers that stand for no name, names that come twice, and lengths and depths that lie are refused", () => {
  const decode = (hex: string) => decodeCbor(Buffer.from(hex, "hex"), { names: ["a", "b"] });
  assert.deepEqual(decode("a2 00 01 61 62 02".replaceAll(" ", "")), { a: 1, b: 2 });
  const lies = {
    "a number above the names": "a10201",
    "a number of 64 bits": "a11bffffffffffffffff01",
    "a negative number": "a12001",
    "a number of another kind": "a1f93c0001",
    "a bignum": "a1c2410001",
    "a name twice, as number and as text": "a20001616102",
    "a number twice": "a200010002",
    "a name without its value": "a100",
    "more names than bytes": "bb7fffffffffffffff00",
    "an array for a name": "a1810001",
    "one more level than may be": `${"a100".repeat(65)}00`,
  };
  for (const [what, hex] of Object.entries(lies))
    assert.throws(() => decode(hex), { code: /^INPUT_(MALFORMED|TOO_DEEP)$/ }, what);
  assert.throws(() => decodeCbor(Buffer.from("a10001", "hex")), { code: "INPUT_MALFORMED" }, "who knows no numbers");
});

test("whatever is written with numbers is read as it was, and no bytes do more than fail", () => {
  const { answer } = termsOf(own, own.operations.mirror);
  const key = fc.oneof(fc.constantFrom(...answer.list), fc.string({ maxLength: 8 }));
  const value = fc.letrec((tie) => ({
    any: fc.oneof({ depthSize: "small" }, fc.string(), fc.integer(), fc.boolean(), tie("many"), tie("map")),
    many: fc.array(tie("any"), { maxLength: 4 }),
    map: fc.dictionary(key, tie("any"), { maxKeys: 4, noNullPrototype: true }),
  })).map;
  fc.assert(
    fc.property(value, (one) => assert.deepEqual(decodeCbor(encodeCbor(one, answer.ids), { names: answer.list }), one)),
    { seed: 7, numRuns: 300 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      try {
        decodeCbor(bytes, { names: answer.list });
      } catch (error) {
        assert.ok(error instanceof Failure);
      }
    }),
    { seed: 7, numRuns: 3_000 },
  );
});
