import assert from "node:assert/strict";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import Native from "better-sqlite3-multiple-ciphers";
import { callOf, edgeHouse, eventually, temporary } from "../../../test/houses/edge.ts";
import { plainly } from "../../../test/houses/http.ts";
import { main as virtualMain } from "../../devices/virtual/main.ts";
import { newRequestId } from "../../kernel/call.ts";
import { main as busMain } from "../bus/main.ts";
import { coreData } from "../core-data/api.ts";
import { main as dataMain } from "../core-data/main.ts";
import { coreMetadata } from "../core-metadata/api.ts";
import { main as metadataMain } from "../core-metadata/main.ts";
import { coreCommand } from "./api.ts";
import { main } from "./main.ts";

type Json = Record<string, unknown>;

/** A node with device-virtual; `calls` counts what core-metadata is asked. */
async function start(t: Parameters<typeof edgeHouse>[0]) {
  const house = edgeHouse(t, temporary(t));
  await house.start(busMain);
  const { service } = await house.start(metadataMain);
  const calls: string[] = [];
  const counted = service as unknown as Record<string, (...of: unknown[]) => unknown>;
  for (const [name, work] of Object.entries(counted)) {
    counted[name] = (...of) => {
      calls.push(name);
      return work(...of);
    };
  }
  await house.start(dataMain);
  await house.start(virtualMain, { interval: "1h" });
  const local = await house.start(main);
  const { ask } = await plainly(t, coreCommand, local.service);
  const metadata = house.connect(coreMetadata, "gateway");
  await eventually(() => metadata.deviceByName({ name: "virtual-1" }, callOf()));
  return {
    house,
    metadata,
    data: house.connect(coreData, "gateway"),
    calls,
    ask: <Body = Json>(method: string, path: string, body?: unknown, headers?: Record<string, string>) =>
      ask<Body>(method, `/api/v3/device/${path}`, body, headers),
    patch: (change: Json) =>
      metadata.patchDevices({ body: [{ device: { name: "virtual-1", ...change } }], bypassValidation: true }, callOf()),
  };
}

test("a device is read and written by its commands, and an event pushed on the way carries the request's id", async (t) => {
  const { ask, data } = await start(t);
  assert.deepEqual((await ask("PUT", "name/virtual-1/Int32", { Int32: "77" })).body, {
    apiVersion: "v3",
    statusCode: 200,
  });
  const requestId = newRequestId();
  const read = await ask<{ event: Json & { id: string; readings: Json[] } }>(
    "GET",
    "name/virtual-1/Int32?ds-pushevent=true",
    undefined,
    { "x-correlation-id": requestId },
  );
  assert.equal(read.status, 200);
  assert.equal(read.headers["x-correlation-id"], requestId);
  assert.equal(read.body.event.readings[0]["value"], "77");
  const { event } = await eventually(() => data.eventById({ id: read.body.event.id }, callOf()));
  assert.equal(event.readings[0].value, "77");
  const quiet = await ask("GET", "name/virtual-1/Int32?ds-returnevent=false");
  assert.deepEqual(quiet.body, { apiVersion: "v3", statusCode: 200 });
  for (const [method, path, status] of [
    ["GET", "name/none/Int32", 404],
    ["GET", "name/virtual-1/none", 404],
    ["GET", "name/__proto__/constructor", 404],
    ["PUT", "name/virtual-1/Int32", 400],
    ["GET", "name/virtual-1/Int32?ds-pushevent=perhaps", 400],
  ] as const) {
    const answer = await ask(method, path, method === "PUT" ? { Int32: "1e3" } : undefined);
    assert.equal(answer.status, status, path);
    assert.equal(answer.body["statusCode"], status);
  }
});

test("a warm command asks core-metadata nothing, and a change is known at once", async (t) => {
  const { ask, calls, patch, metadata, house } = await start(t);
  // device-virtual is still making itself known: each change empties what is cached.
  await eventually(async () => {
    calls.length = 0;
    for (let i = 0; i < 3; i++) await ask("GET", "name/virtual-1/Int8");
    return calls.length === 0;
  });
  for (let i = 0; i < 5; i++) assert.equal((await ask("GET", "name/virtual-1/Int16")).status, 200);
  assert.deepEqual(calls, []);
  await patch({ adminState: "LOCKED" });
  await eventually(async () => (await ask("GET", "name/virtual-1/Int8")).status === 423);
  assert.equal((await ask("PUT", "name/virtual-1/Int8", { Int8: "1" })).status, 423);
  await patch({ adminState: "UNLOCKED", operatingState: "DOWN" });
  await eventually(async () => String((await ask("GET", "name/virtual-1/Int8")).body["message"]).includes("DOWN"));
  await patch({ operatingState: "UP" });
  await eventually(async () => (await ask("GET", "name/virtual-1/Int8")).status === 200);
  await metadata.patchServices({ body: [{ service: { name: "device-virtual", adminState: "LOCKED" } }] }, callOf());
  await eventually(async () => (await ask("GET", "name/virtual-1/Int8")).status === 423);
  await metadata.patchServices({ body: [{ service: { name: "device-virtual", adminState: "UNLOCKED" } }] }, callOf());
  await eventually(async () => (await ask("GET", "name/virtual-1/Int8")).status === 200);
  await house.services.get("core-metadata")!.stop();
  await house.services.get("bus")!.stop();
  assert.equal((await ask("GET", "name/virtual-1/Int8")).status, 200, "what is cached is used on");
});

test("a warm command is two exchanges and no read of a database", async (t) => {
  const { ask, house } = await start(t);
  const read = () => ask("GET", "name/virtual-1/Int8");
  const exchanges: string[] = [];
  for (const [name, { started }] of house.services) {
    const operations = started.service as unknown as Record<string, (...of: unknown[]) => unknown>;
    for (const [operation, work] of Object.entries(operations)) {
      operations[operation] = (...of) => {
        exchanges.push(`${name} ${operation}`);
        return work.apply(operations, of);
      };
    }
  }
  const statements = countStatements(t);
  // What goes on beside it (followers, confirmations) is not this command's: one time that it is alone tells.
  await eventually(async () => {
    [exchanges.length, statements.count] = [0, 0];
    assert.equal((await read()).status, 200);
    // The first of the two is the question itself, by the wire.
    return statements.count === 0 && exchanges.length === 1;
  });
  assert.deepEqual(exchanges, ["device-virtual read"]);
  await house.connect(coreMetadata, "gateway").allDevices({ offset: 0, limit: 1 }, callOf());
  assert.ok(statements.count > 0, "reads are seen by the count");
});

test("a changed profile is known within 50 ms, and one whose message was missed within a second of the bus's return", async (t) => {
  const { ask, metadata, house } = await start(t);
  const commands = async () => {
    const { body } = await ask<{ deviceCoreCommand: { coreCommands: { name: string }[] } }>("GET", "name/virtual-1");
    return body.deviceCoreCommand.coreCommands.map(({ name }) => name);
  };
  const change = async (name: string) => {
    const { profile } = await metadata.profileByName({ name: "Holdfast-Virtual" }, callOf());
    const deviceCommands = [...(profile.deviceCommands ?? []), commandNamed(name)];
    await metadata.updateProfiles({ body: [{ profile: { ...profile, deviceCommands } }] }, callOf());
  };
  await eventually(async () => (await commands()).length > 0);
  const delays: number[] = [];
  for (const name of ["a", "b", "c", "d", "e"]) {
    await change(name);
    const startMs = performance.now();
    await eventually(async () => (await commands()).includes(name));
    delays.push(performance.now() - startMs);
  }
  assert.ok(Math.min(...delays) < 50, `${Math.min(...delays)} ms at best, of ${delays.join(", ")}`);
  await house.services.get("bus")!.stop();
  await commands();
  await change("missed");
  assert.ok(!(await commands()).includes("missed"), "nobody told of it");
  await house.start(busMain);
  const startMs = performance.now();
  await eventually(async () => (await commands()).includes("missed"));
  const ms = performance.now() - startMs;
  assert.ok(ms < 1_000, `${ms} ms after the bus was back`);
});

const commandNamed = (name: string) => ({
  name,
  isHidden: false,
  readWrite: "R" as const,
  resourceOperations: [{ deviceResource: "Int8" }],
});

/** Counts what is asked of any database of this process. */
function countStatements(t: Parameters<typeof edgeHouse>[0]): { count: number } {
  const counted = { count: 0 };
  const database = new Native(":memory:");
  const statement = Object.getPrototypeOf(database.prepare("SELECT 1")) as Record<string, unknown>;
  for (const method of ["get", "all", "iterate"]) {
    const work = statement[method] as (...of: unknown[]) => unknown;
    statement[method] = function (this: unknown, ...of: unknown[]) {
      counted.count++;
      return work.apply(this, of);
    };
    t.after(() => {
      statement[method] = work;
    });
  }
  database.close();
  return counted;
}

test("commands are listed as EdgeX lists them", async (t) => {
  const { ask } = await start(t);
  const one = await ask<{ deviceCoreCommand: { deviceName: string; profileName: string; coreCommands: Json[] } }>(
    "GET",
    "name/virtual-1",
  );
  assert.equal(one.status, 200);
  const { deviceName, profileName, coreCommands } = one.body.deviceCoreCommand;
  assert.deepEqual([deviceName, profileName], ["virtual-1", "Holdfast-Virtual"]);
  assert.deepEqual(
    coreCommands.find((c) => c["name"] === "floats"),
    {
      name: "floats",
      get: true,
      set: true,
      path: "/api/v3/device/name/virtual-1/floats",
      url: "/core-command",
      parameters: [
        { resourceName: "Float32", valueType: "Float32" },
        { resourceName: "Float64", valueType: "Float64" },
      ],
    },
  );
  assert.ok(coreCommands.some((c) => c["name"] === "Int8"));
  const all = await ask<{ totalCount: number; deviceCoreCommands: Json[] }>("GET", "all?limit=-1");
  assert.equal(all.body.totalCount, 1);
  assert.deepEqual(all.body.deviceCoreCommands[0], one.body.deviceCoreCommand);
  assert.equal((await ask("GET", "all?offset=5")).status, 416);
  assert.equal((await ask("GET", "name/none")).status, 404);
});

test("a device service of others, which speaks plain HTTP, is reached where it said it is", async (t) => {
  const { ask, metadata } = await start(t);
  const seen: { method: string; url: string; body: string; headers: IncomingMessage["headers"] }[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => (body += chunk.toString()));
    request.on("end", () => {
      seen.push({ method: request.method!, url: request.url!, body, headers: request.headers });
      const names = { deviceName: "far/1", profileName: "Far", sourceName: "T" };
      // Beyond 2^53, as EdgeX's Go writes it.
      const event = `{"apiVersion":"v3","id":"6ba7b810-9dad-41d1-80b4-00c04fd430c8","origin":1700000000123456789,${JSON.stringify(names).slice(1, -1)},
        "readings":[{"id":"6ba7b810-9dad-41d1-80b4-00c04fd430c9","origin":1700000000123456789,"deviceName":"far/1","resourceName":"T","profileName":"Far","valueType":"Int8","value":"-12"}]}`;
      const [status, text] = request.url!.includes("/locked")
        ? [423, '{"apiVersion":"v3","statusCode":423,"message":"it is locked"}']
        : request.url!.includes("/odd")
          ? [500, "not JSON"]
          : [
              200,
              request.method === "GET"
                ? `{"apiVersion":"v3","statusCode":200,"event":${event}}`
                : '{"apiVersion":"v3","statusCode":200}',
            ];
      response.writeHead(status, { "content-type": "application/json" }).end(text);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const service = (baseAddress: string) => ({ name: "device-far", baseAddress, adminState: "UNLOCKED" as const });
  await metadata.addServices({ body: [{ service: service(`http://127.0.0.1:${port}`) }] }, callOf());
  const device = {
    name: "far/1",
    adminState: "UNLOCKED",
    operatingState: "UP",
    serviceName: "device-far",
    protocols: {},
  } as const;
  await metadata.addDevices({ body: [{ device }], bypassValidation: true, force: false }, callOf());
  const read = await ask("GET", "name/far%2F1/T?ds-pushevent=true");
  assert.equal(read.status, 200, read.text);
  assert.ok(read.text.includes('"origin":1700000000123456789') && read.text.includes('"value":"-12"'));
  assert.equal(seen[0].url, "/api/v3/device/name/far%2F1/T?ds-pushevent=true&ds-returnevent=true&ds-regexcmd=true");
  assert.equal(seen[0].headers["x-correlation-id"], read.headers["x-correlation-id"]);
  assert.equal((await ask("PUT", "name/far%2F1/T", { T: "5" })).status, 200);
  assert.deepEqual([seen[1].method, JSON.parse(seen[1].body)], ["PUT", { T: "5" }]);
  const locked = await ask("GET", "name/far%2F1/locked");
  assert.deepEqual([locked.status, locked.body["message"]], [423, "it is locked"]);
  assert.equal((await ask("GET", "name/far%2F1/odd")).status, 500);
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  assert.equal((await ask("GET", "name/far%2F1/T")).status, 503);
  const [{ statusCode }] = (await metadata.patchServices(
    { body: [{ service: { name: "device-far", baseAddress: "nowhere" } }] },
    callOf(),
  ))!;
  assert.equal(statusCode, 400, "an address that nobody could reach is not taken");
});
