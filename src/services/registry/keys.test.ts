/** EdgeX's key-value store over plain HTTP, and what is told on the bus. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openEdgex } from "../../../test/houses/keeper.ts";
import { quiet, registryOf } from "../../../test/houses/registry.ts";
import { makeCall } from "../../kernel/call.ts";
import type { Envelope } from "../../kernel/edgex.ts";
import { makeLocalHouse } from "../../node/local.ts";
import { bus } from "../bus/api.ts";
import { main as busMain } from "../bus/main.ts";
import { registry } from "./api.ts";
import type { KeyValue } from "./kvs.api.ts";
import { main } from "./main.ts";

/** Every character but letters and digits escaped, as EdgeX's client does. */
const escaped = (key: string): string =>
  key.replaceAll(/[^A-Za-z0-9]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
const at = (key: string, query = ""): string => `/api/v3/kvs/key/${escaped(key)}${query}`;

const KEY = "edgex/v4/device-virtual";

test("EdgeX's start: keys are asked for, pushed leaf by leaf with an empty apiVersion, and read back", async (t) => {
  const { ask } = await openEdgex(t);
  assert.equal((await ask("GET", at(KEY, "?keyOnly=true"))).status, 404);
  const leaf = `${KEY}/Service/Port`;
  const put = await ask("PUT", at(leaf, "?flatten=false"), { apiVersion: "", value: "59900" });
  assert.deepEqual([put.status, put.body.response], [200, [leaf]]);
  assert.deepEqual((await ask("GET", at(KEY, "?keyOnly=true"))).body.response, [leaf]);
  const plain = (await ask("GET", at(KEY, "?plaintext=true"))).body;
  assert.equal(plain.apiVersion, "v3");
  assert.deepEqual([plain.statusCode, plain.response[0].key, plain.response[0].value], [200, leaf, "59900"]);
  assert.ok(plain.response[0].Created > 1.7e12 && plain.response[0].Modified >= plain.response[0].Created);
  const coded = (await ask("GET", at(leaf))).body.response[0].value;
  assert.equal(Buffer.from(coded, "base64").toString(), "59900");
});

test("a value is flattened to its leaves, lists by their places; below a key is not beside it", async (t) => {
  const { ask } = await openEdgex(t);
  const value = { Writable: { LogLevel: "INFO", Persist: true, Max: 25000 }, Hosts: ["a", "b"], Empty: {} };
  const { body } = await ask("PUT", at("x/y", "?flatten=true"), { value });
  const keys = ["x/y/Writable/LogLevel", "x/y/Writable/Persist", "x/y/Writable/Max", "x/y/Hosts/0", "x/y/Hosts/1"];
  assert.deepEqual(body.response, keys);
  await ask("PUT", at("x/yy"), { value: "beside" });
  await ask("PUT", at("x/y-z"), { value: "beside" });
  const values: KeyValue[] = (await ask("GET", at("x/y", "?plaintext=true"))).body.response;
  assert.deepEqual(Object.fromEntries(values.map((p) => [p.key, p.value])), {
    "x/y/Hosts/0": "a",
    "x/y/Hosts/1": "b",
    "x/y/Writable/LogLevel": "INFO",
    "x/y/Writable/Max": "25000",
    "x/y/Writable/Persist": "true",
  });
  await ask("PUT", at("whole"), { value: { a: [1] } });
  assert.equal((await ask("GET", at("whole", "?plaintext=true"))).body.response[0].value, '{"a":[1]}');
});

test("a key is removed alone, or with all below it where that is asked for", async (t) => {
  const { ask } = await openEdgex(t);
  await ask("PUT", at("a", "?flatten=true"), { value: { b: "1", c: "2" } });
  assert.equal((await ask("DELETE", at("a"))).status, 409);
  assert.deepEqual((await ask("DELETE", at("a/b"))).body.response, ["a/b"]);
  assert.equal((await ask("DELETE", at("a/b"))).status, 404);
  await ask("PUT", at("ab"), { value: "stays" });
  assert.deepEqual((await ask("DELETE", at("a", "?prefixMatch=true"))).body.response, ["a/c"]);
  assert.equal((await ask("GET", at("ab"))).status, 200);
});

test("keys and values that cannot be are refused, a percent sign in a key is a percent sign", async (t) => {
  const { ask } = await openEdgex(t);
  for (const key of ["a b", "a#", "a+b", "\u00e4"])
    assert.equal((await ask("PUT", `/api/v3/kvs/key/${encodeURIComponent(key)}`, { value: "1" })).status, 400, key);
  assert.equal((await ask("PUT", at("k".repeat(1_001)), { value: "1" })).status, 400);
  for (const body of [{}, { value: {} }, { value: null }, { value: "v".repeat(70_000) }])
    assert.equal((await ask("PUT", at("k"), body)).status, 400, JSON.stringify(body).slice(0, 40));
  assert.equal((await ask("PUT", at("k", "?flatten=true"), { value: { "a b": 1 } })).status, 400);
  await ask("PUT", at("50%2Fhalf"), { value: "1" });
  assert.deepEqual((await ask("GET", at("50%2Fhalf", "?keyOnly=true"))).body.response, ["50%2Fhalf"]);
});

test("what is written outlives the registry, and keeps when it was created", async () => {
  const first = registryOf();
  const call = makeCall({ caller: "open-edgex", timeoutMs: 1_000 });
  const write = (running: typeof first, value: string) =>
    running.service.setValues({ key: "k", flatten: false, body: { value } }, call);
  await write(first, "1");
  const read = async (running: typeof first) =>
    (await running.service.values({ key: "k", keyOnly: false, plaintext: true }, call)).response[0];
  const before = await read(first);
  const second = registryOf({ store: first.store });
  await write(second, "2");
  const now = await read(second);
  assert.ok(typeof before === "object" && typeof now === "object");
  assert.deepEqual([now.value, now.Created], ["2", before.Created]);
  second.remove();
  first.remove();
});

test("a change is told on edgex/configs/<key>, and waits for a bus that is not up yet", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "keys-"));
  const house = makeLocalHouse({
    node: "e",
    directory,
    version: "0",
    log: quiet,
    dataKey: async () => Buffer.alloc(32),
  });
  t.after(async () => {
    await house.stop();
    rmSync(directory, { recursive: true });
  });
  await house.start(main);
  const call = makeCall({ caller: "gateway", timeoutMs: 5_000 });
  const keys = house.connect(registry, "gateway");
  const write = (value: string) =>
    keys.setValues({ key: "edgex/v4/x/Writable/LogLevel", flatten: false, body: { value } }, call);
  await write("INFO");
  await write("DEBUG");
  const listened = makeCall({ caller: "device-x", timeoutMs: Number.POSITIVE_INFINITY });
  await house.start(busMain);
  const topics = ["edgex/configs/edgex/v4/x/Writable/#"];
  for await (const { topic, payload } of house.connect(bus, "device-x").listen({ topics }, listened)) {
    assert.equal(topic, "edgex/configs/edgex/v4/x/Writable/LogLevel");
    const told = JSON.parse(Buffer.from(payload).toString()) as Envelope & { payload: KeyValue };
    const { payload: pair, errorCode, contentType } = told;
    assert.deepEqual([errorCode, contentType, pair.key, pair.value], [0, "application/json", topic.slice(14), "DEBUG"]);
    assert.ok(pair.Modified >= pair.Created);
    listened.end(true);
    break;
  }
});
