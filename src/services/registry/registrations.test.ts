/** EdgeX's registry over plain HTTP, as EdgeX's services speak it: real checks of real servers. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { codeOf, Held, setUp, turn } from "../../../test/houses/leases.ts";
import { instanceOf, registryOf } from "../../../test/houses/registry.ts";
import { openEdgex } from "../../../test/houses/keeper.ts";
import { makeCall } from "../../kernel/call.ts";

const CHECK = { interval: "100ms", path: "/api/v3/ping", type: "http" };

async function pinged(t: TestContext): Promise<{ server: Server; port: number; status: (code: number) => void }> {
  let code = 200;
  const server = createServer((request, response) => {
    response.writeHead(request.url === CHECK.path ? code : 404).end("pong");
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => server.close());
  return { server, port: (server.address() as AddressInfo).port, status: (next) => void (code = next) };
}

const registrationOf = (port: number, more: object = {}) => ({
  apiVersion: "v3",
  requestId: "",
  registration: { serviceId: "device-pump", status: "", host: "127.0.0.1", port, HealthCheck: CHECK, ...more },
});

test("a service of EdgeX registers as EdgeX's SDK does, is looked after, found, and deregisters", async (t) => {
  const { ask, registry } = await openEdgex(t);
  const { port, status } = await pinged(t);
  const one = "/api/v3/registry/serviceId/device-pump";
  assert.equal((await ask("GET", one)).status, 404);
  assert.equal((await ask("PUT", "/api/v3/registry", registrationOf(port))).status, 404);
  assert.equal((await ask("POST", "/api/v3/registry", registrationOf(port))).status, 201);
  assert.equal((await ask("POST", "/api/v3/registry", registrationOf(port))).status, 409);
  const first = (await ask("GET", one)).body;
  assert.equal(first.statusCode, 200);
  assert.equal(first.registration.status, "UNKNOWN");
  assert.deepEqual(first.registration.healthCheck, CHECK);
  const watcher = new Held(registry);
  await registry.until(watcher, "passing");
  assert.equal((await ask("GET", one)).body.registration.status, "UP");
  status(500);
  await registry.until(watcher, "critical");
  const { instances } = await registry.service.instances({ service: "device-pump" }, watcher.call);
  assert.equal(instances[0].reason, "answered 500");
  assert.equal(instances[0].check, "http");
  status(204);
  await registry.until(watcher, "passing");
  assert.equal((await ask("PUT", "/api/v3/registry", registrationOf(port, { status: "HALT" }))).status, 204);
  assert.equal((await ask("GET", "/api/v3/registry/all")).body.totalCount, 0);
  const all = (await ask("GET", "/api/v3/registry/all?deregistered=true")).body;
  assert.deepEqual(
    all.registrations.map((r) => r.status),
    ["HALT"],
  );
  assert.equal((await ask("DELETE", one)).status, 204);
  assert.equal((await ask("DELETE", one)).status, 404);
});

test("keys are taken in any case, and what is wrong is said", async (t) => {
  const { ask } = await openEdgex(t);
  const body = { REGISTRATION: { ServiceID: "a", PORT: 7000, healthcheck: { Interval: "1s", TYPE: "tcp" } } };
  assert.equal((await ask("POST", "/api/v3/registry", body)).status, 201);
  for (const wrong of [
    { registration: { serviceId: "b", port: 7000 } },
    { registration: { serviceId: "b", port: 0, healthCheck: { type: "http" } } },
    { registration: { serviceId: "b", port: 1, healthCheck: { type: "gopher" } } },
    { registration: { serviceId: "b", port: 1, healthCheck: { type: "http", interval: "soon" } } },
    { registration: { serviceId: "b", port: 1, healthCheck: { type: "http", interval: "1ns" } } },
    {},
  ])
    assert.equal((await ask("POST", "/api/v3/registry", wrong)).status, 400, JSON.stringify(wrong));
  assert.equal((await ask("GET", "/api/v3/registry/all")).body.totalCount, 1);
});

test("a TCP check connects, and one by time ends when no sign of life comes", async (t) => {
  const { clock, running, pass } = setUp({ probe: (await import("./probe.ts")).probe });
  const { port, server } = await pinged(t);
  const call = makeCall({ caller: "open-edgex", timeoutMs: 5_000 });
  const register = (serviceId: string, type: string, at = port) =>
    running.service.addRegistration(
      { body: { registration: { serviceId, port: at, host: "127.0.0.1", healthCheck: { type, interval: "1s" } } } },
      call,
    );
  await register("by-tcp", "tcp");
  await register("by-time", "ttl");
  const state = async (service: string) => (await running.service.instances({ service }, call)).instances[0].state;
  assert.equal(await state("by-time"), "passing", "it said so itself");
  assert.equal(await state("by-tcp"), "unverified");
  const watcher = new Held(running);
  await turn();
  pass(500);
  while ((await state("by-tcp")) !== "passing") await turn();
  server.closeAllConnections();
  server.close();
  pass(400);
  const alive = { serviceId: "by-time", port, host: "127.0.0.1", healthCheck: { type: "ttl", interval: "1s" } };
  await running.service.updateRegistration({ body: { registration: alive } }, call);
  pass(600);
  while ((await state("by-tcp")) !== "critical") await turn();
  assert.equal(await state("by-time"), "passing");
  clock.wall += 10 * 365 * 86_400_000;
  assert.equal(await state("by-time"), "passing");
  pass(500);
  assert.equal(await state("by-time"), "critical");
  await running.service.updateRegistration({ body: { registration: alive } }, call);
  assert.equal(await state("by-time"), "passing");
  assert.ok(watcher.changes.length > 3);
});

test("registrations outlive the registry, unverified until they are checked", () => {
  const first = registryOf();
  const call = makeCall({ caller: "open-edgex", timeoutMs: 5_000 });
  const registration = { serviceId: "a", port: 7_000, status: "UP" as const, healthCheck: { type: "tcp" } };
  void first.service.addRegistration({ body: { registration } }, call);
  const second = registryOf({ store: first.store });
  const [instance] = second.roster.list("a").instances;
  assert.deepEqual([instance.state, instance.host, instance.port], ["unverified", "localhost", 7_000]);
  second.remove();
  first.remove();
});

test("a name that a certificate holds is its own; a certificate registers no other name", async () => {
  const { running } = setUp();
  const held = new Held(running, { ...instanceOf("core-data", "a", 7_000), edgexPort: 59_880 });
  await turn();
  const body = { registration: { serviceId: "core-data", port: 1, healthCheck: { type: "tcp" } } };
  for (const caller of ["open-edgex", "gateway", "device-x"])
    await assert.rejects(
      running.service.addRegistration({ body }, makeCall({ caller, timeoutMs: 1_000 })),
      codeOf("REGISTRY_NAME_REFUSED"),
      caller,
    );
  const call = makeCall({ caller: "open-edgex", timeoutMs: 1_000 });
  const { registration } = await running.service.registration({ serviceId: "core-data" }, call);
  assert.deepEqual(
    [registration.status, registration.host, registration.port],
    ["UP", "localhost", 59_880],
    "EdgeX's software is sent to the port that it can speak to",
  );
  held.call.end(true);
  await held.done;
  await assert.rejects(
    running.service.registration({ serviceId: "core-data" }, call),
    codeOf("REGISTRY_SERVICE_UNKNOWN"),
  );
});

test("what an operator takes out of use is marked, over the registry's restart, until it is taken back", async () => {
  const { running } = setUp();
  const call = makeCall({ caller: "gateway", timeoutMs: 1_000 });
  const held = new Held(running, instanceOf("core-data", "a"));
  const watcher = new Held(running);
  await turn();
  await assert.rejects(
    running.service.maintain({ body: { name: "nobody", on: true } }, call),
    codeOf("REGISTRY_INSTANCE_UNKNOWN"),
  );
  assert.deepEqual(await running.service.maintain({ body: { name: "core-data", on: true } }, call), {
    instances: ["a"],
  });
  const later = new Held(running, { ...instanceOf("core-data", "b"), maintenance: false });
  await turn();
  const again = registryOf({ store: running.store });
  const restarted = new Held(again, instanceOf("core-data", "a"));
  await turn();
  assert.equal(again.roster.list("core-data").instances[0].maintenance, true);
  await running.service.maintain({ body: { name: "core-data", on: false } }, call);
  await turn();
  const marks = watcher.changes.flatMap((c) => c.instances.map((i) => `${i.instance}:${i.maintenance ?? false}`));
  assert.deepEqual(marks, ["a:false", "a:true", "b:true", "a:false", "b:false"]);
  for (const one of [held, later, restarted]) one.call.end(true);
  await restarted.done;
  again.remove();
});
