/** Leases over real TLS, held by real processes that are killed, stopped and started again. */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { after, before, test, type TestContext } from "node:test";
import { makeCall } from "../../kernel/call.ts";
import { systemClock } from "../../kernel/clock.ts";
import { connect } from "../../kernel/connect.ts";
import { contract } from "../../kernel/contract.ts";
import { Failure } from "../../kernel/error.ts";
import { type Authority, createAuthority } from "../../kernel/identity/authority.ts";
import { holdLease } from "./client.ts";
import { Cable } from "../../../test/houses/cable.ts";
import {
  clientOf,
  echo,
  holdEcho,
  instanceOf,
  LEASE,
  NODE,
  observe,
  type Order,
  papersOf,
  quiet,
  serveRegistry,
  startProcess,
} from "../../../test/houses/registry.ts";
import { need } from "../../../test/need.ts";

type Observer = Awaited<ReturnType<typeof observe>>;

let authority: Authority;
let registryPort = 0;
let stopRegistry: () => Promise<void>;

before(async () => {
  authority = await createAuthority({ node: NODE, clock: systemClock });
  const served = await serveRegistry({ papers: await papers("core-keeper"), port: 0 });
  registryPort = served.port;
  stopRegistry = served.stop;
});
after(() => stopRegistry());

const papers = (service: string) => papersOf(authority, service);

/** Starts a process that is killed when the test ends. */
const start = async (t: TestContext, role: "hold" | "serve", order: Order) => {
  const child = await startProcess(role, order);
  t.after(() => child.kill("SIGKILL"));
  return child;
};

const watching = async (t: TestContext, port = registryPort): Promise<Observer> => {
  const observer = await observe(await papers("node"), port);
  t.after(() => observer.stop());
  return observer;
};

test("calls are balanced; an instance killed is known gone within 100 ms, a hung one after its lease, and only the rest is called", async (t) => {
  const observer = await watching(t);
  const paper = await papers("core-data");
  const names = ["one", "two", "three"];
  const children = await Promise.all(
    names.map((instance) => start(t, "hold", { papers: paper, registryPort, instance })),
  );
  const client = connect(echo, { resolver: observer.resolver });
  const ask = async () => (await client.who({}, makeCall({ caller: "node", timeoutMs: 5_000 }))).instance;
  const asked = Object.fromEntries(names.map((n) => [n, 0]));
  for (let n = 0; n < 21; n++) asked[await ask()] += 1;
  assert.deepEqual(asked, { one: 7, two: 7, three: 7 });
  for (const [n, child] of children.slice(1).entries()) {
    const known = observer.down(names[n + 1]);
    // A pipe closes when the process is really dead: on a busy machine a killed one may wait long for the time it
    // needs to die.
    const dead = once(child, "disconnect").then(() => performance.now());
    const startMs = performance.now();
    child.kill("SIGKILL");
    const [knownMs, deadMs] = await Promise.all([known, dead]);
    t.diagnostic(
      `killed: dead after ${(deadMs - startMs).toFixed(1)} ms, known to be gone ${(knownMs - deadMs).toFixed(1)} ms later`,
    );
    assert.ok(knownMs - deadMs < 100, `${knownMs - deadMs} ms`);
  }
  for (let n = 0; n < 20; n++) assert.equal(await ask(), "one");
  await hungIsDropped(t, observer, children[0], "one");
});

/** The second half of the test above: starting a process is most of what these tests cost. */
const hungIsDropped = async (t: TestContext, observer: Observer, child: ChildProcess, instance: string) => {
  const warned = observer.told((c) => c.instances[0]?.instance === instance && c.instances[0].state === "warning");
  const known = observer.down(instance);
  const startMs = performance.now();
  child.kill("SIGSTOP");
  const warnedMs = (await warned) - startMs;
  const knownMs = (await known) - startMs;
  t.diagnostic(
    `hung: warned of after ${warnedMs.toFixed(0)} ms, dropped after ${knownMs.toFixed(0)} ms of a lease of ${LEASE.ttlMs} ms`,
  );
  assert.ok(warnedMs < knownMs && knownMs > LEASE.ttlMs - LEASE.renewMs, `${warnedMs} ${knownMs}`);
  const back = observer.told((c) => c.kind === "up" && c.instances[0]?.instance === instance);
  child.kill("SIGCONT");
  await back;
};

test("who sits at an unplugged cable is warned of, and gone after its lease", { skip: need("netns") }, async (t) => {
  const cable = new Cable();
  t.after(() => cable.remove());
  const { host: registryHost } = cable;
  const served = await serveRegistry({ papers: await papers("core-keeper"), port: 0, host: registryHost });
  t.after(() => served.stop());
  const order = { registryHost, registryPort: served.port, instance: "far", papers: await papers("core-data") };
  const observer = await observe(await papers("node"), served.port, registryHost);
  t.after(() => observer.stop());
  const child = await startProcess("hold", order, cable);
  t.after(() => child.kill("SIGKILL"));
  const warned = observer.told((c) => c.instances[0]?.instance === "far" && c.instances[0].state === "warning");
  const known = observer.down("far");
  const startMs = performance.now();
  cable.unplug();
  const warnedMs = (await warned) - startMs;
  const knownMs = (await known) - startMs;
  t.diagnostic(`gone after ${knownMs.toFixed(0)} ms of a lease of ${LEASE.ttlMs} ms`);
  // By its time, not by a connection that broke.
  assert.ok(warnedMs < knownMs && knownMs > LEASE.renewMs, `${warnedMs} ${knownMs}`);
});

test("a name other than the certificate's is refused over the wire", async (t) => {
  const { registry } = await watching(t);
  const call = makeCall({ caller: "core-data", timeoutMs: 5_000 });
  await assert.rejects(
    async () => {
      for await (const change of registry.hold({ instance: instanceOf("core-data", "liar") }, call))
        assert.fail(change.kind);
    },
    (error) => error instanceof Failure && error.code === "REGISTRY_NAME_REFUSED" && error.status === 403,
  );
});

test("a call to a service that is not up yet waits for it, and no longer than its deadline", async (t) => {
  const { resolver } = await watching(t);
  const never = contract("support-scheduler", echo.operations);
  await assert.rejects(
    connect(never, { resolver }).who({}, makeCall({ caller: "node", timeoutMs: 60 })),
    (error) => error instanceof Failure && error.code === "DEADLINE",
  );
  const late = connect(echo, { resolver }).who({}, makeCall({ caller: "node", timeoutMs: 5_000 }));
  const holder = await holdEcho({ papers: await papers("core-data"), registryPort, instance: "late" });
  assert.deepEqual(await late, { instance: "late" });
  await holder.stop();
});

test("a change of health is known at once, and a release is the end", async (t) => {
  const observer = await watching(t);
  const client = clientOf(await papers("core-data"), registryPort);
  const stopping = new AbortController();
  let state: "passing" | "draining" = "passing";
  const lease = holdLease({
    ...client,
    instance: () => instanceOf("core-data", "drains"),
    health: () => ({ state }),
    log: quiet,
    signal: stopping.signal,
  });
  await lease.held;
  assert.equal(
    lease.table.of("core-data").some((e) => e.instance.instance === "drains"),
    true,
    "it finds itself",
  );
  const draining = observer.told((c) => c.kind === "changed" && c.instances[0]?.state === "draining");
  state = "draining";
  await lease.renew();
  await draining;
  const down = observer.down("drains");
  await lease.release();
  await down;
  client.identity.close();
});

test("the stream moves to a younger connection, and nobody takes that for a death", async (t) => {
  const observer = await watching(t);
  const client = clientOf(await papers("core-data"), registryPort);
  const stopping = new AbortController();
  const ports = [7001, 7002, 7003, 7004, 7005];
  const lease = holdLease({
    ...client,
    instance: () => instanceOf("core-data", "moves", ports.shift()),
    health: () => ({ state: "passing" }),
    log: quiet,
    signal: stopping.signal,
    reopenMs: 60,
  });
  const down = observer.down("moves");
  const moved = observer.told((c) => c.kind === "changed" && c.instances[0]?.port === 7003);
  await moved;
  await lease.renew();
  assert.equal(observer.table.of("core-data").filter((e) => e.instance.instance === "moves").length, 1);
  assert.equal(await Promise.race([down.then(() => "down"), Promise.resolve("up")]), "up");
  stopping.abort();
  await down;
  client.identity.close();
});

test("the registry's death hurts nobody: calls go on, and all register again when it is back", async (t) => {
  const keeper = await papers("core-keeper");
  // A port of its own, so that it comes back where it was.
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const port = (probe.address() as { port: number }).port;
  probe.close();
  const killed = await start(t, "serve", { papers: keeper, registryPort: port, instance: "" });
  const paper = await papers("core-data");
  const holders = await Promise.all(
    ["left", "right"].map((instance) => holdEcho({ papers: paper, registryPort: port, instance })),
  );
  t.after(() => Promise.all(holders.map((h) => h.stop())));
  const observer = await watching(t, port);
  const client = connect(echo, { resolver: observer.resolver });
  const ask = async () => (await client.who({}, makeCall({ caller: "node", timeoutMs: 5_000 }))).instance;
  killed.kill("SIGKILL");
  await once(killed, "exit");
  assert.deepEqual(new Set([await ask(), await ask(), await ask(), await ask()]), new Set(["left", "right"]));
  const registered = new Set<string>();
  const all = observer.told((c) => {
    if (c.kind !== "lease" && c.kind !== "down") for (const i of c.instances) registered.add(i.instance);
    return registered.size === 2;
  });
  const again = await serveRegistry({ papers: keeper, port });
  t.after(() => again.stop());
  const startMs = performance.now();
  const asking = (async () => {
    const seen = new Set<string>();
    for (let n = 0; n < 50; n++) seen.add(await ask());
    return seen;
  })();
  const tookMs = (await all) - startMs;
  t.diagnostic(`all registered again ${Math.max(0, tookMs).toFixed(0)} ms after the registry was back`);
  assert.ok(tookMs < 1_000, String(tookMs));
  assert.ok([...(await asking)].every((i) => i === "left" || i === "right"));
});
