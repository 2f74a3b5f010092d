/** Leases over real TLS, held by real processes that are killed, stopped and started again. Run with `hold` or `serve`, this file is such a process. */
import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { Type } from "typebox";
import { makeCall } from "../../kernel/call.ts";
import { systemClock } from "../../kernel/clock.ts";
import { connect } from "../../kernel/connect.ts";
import { contract, get } from "../../kernel/contract.ts";
import { Failure } from "../../kernel/error.ts";
import type { Authority } from "../../kernel/identity/authority.ts";
import { makeKeyAndRequest } from "../../kernel/identity/request.ts";
import { TlsIdentity } from "../../kernel/identity/tls.ts";
import { makeLog } from "../../kernel/log.ts";
import { serve } from "../../kernel/serve.ts";
import { Tracer } from "../../kernel/trace.ts";
import { makeLocalHouse } from "../../node/local.ts";
import { type Change, type Instance, registry as registryContract } from "./api.ts";
import { followTable, holdLease, makeResolver, Table } from "./client.ts";
import { main } from "./main.ts";

interface Papers {
  readonly service: string;
  readonly caPem: string;
  readonly certPem: string;
  readonly keyPem: string;
}

interface Order {
  readonly papers: Papers;
  readonly registryPort: number;
  readonly instance: string;
}

const NODE = "edge-1";
/** Short, so that the tests are: hung is dead after half a second. */
const LEASE = { ttlMs: 600, renewMs: 200 };
const quiet = makeLog("test", { to: { write: () => {} } });

const echo = contract("core-data", { who: get("/who", { input: {}, output: Type.Object({ instance: Type.String() }), callers: ["*"] }) });

function identityOf({ service, caPem, certPem, keyPem }: Papers): TlsIdentity {
  const identity = new TlsIdentity({ node: NODE, service, caPem });
  identity.update({ certPem, keyPem });
  return identity;
}

const instanceOf = (service: string, instance: string, port = 7000): Instance => ({
  service, instance, host: "127.0.0.1", port, pid: process.pid, version: "0", startedAtMs: Date.now(), state: "passing", routes: [],
});

/** What a process has of the registry: its table, its resolver, its client. */
function clientOf(papers: Papers, registryPort: number) {
  const table = new Table();
  const identity = identityOf(papers);
  const resolver = makeResolver({ table, identity, fixed: { "core-keeper": { host: "127.0.0.1", port: registryPort } } });
  return { table, identity, resolver, registry: connect(registryContract, { resolver }) };
}

async function serveRegistry(papers: Papers, port: number) {
  const house = makeLocalHouse({ node: NODE, directory: mkdtempSync(join(tmpdir(), "registry-")), version: "0", log: quiet, dataKey: async () => Buffer.alloc(32) });
  const { service } = await house.start(main, LEASE);
  const at = { host: "127.0.0.1", port };
  const served = await serve({ contract: registryContract, service, listen: at, identity: identityOf(papers), log: quiet, clock: systemClock, tracer: new Tracer("core-keeper", systemClock) });
  return { port: served.port, stop: async () => void (await Promise.all([served.close(), house.stop()])) };
}

/** Serves `echo` and holds a lease for it. */
async function holdEcho({ papers, registryPort, instance }: Order) {
  const stopping = new AbortController();
  const { registry, identity, table } = clientOf(papers, registryPort);
  const service = { who: async () => ({ instance }) };
  const tracer = new Tracer("core-data", systemClock);
  const served = await serve({ contract: echo, service, listen: { host: "127.0.0.1", port: 0 }, identity, instance, log: quiet, clock: systemClock, tracer });
  const lease = holdLease({ registry, table, instance: () => instanceOf("core-data", instance, served.port), health: () => ({ state: "passing" }), log: quiet, signal: stopping.signal });
  await lease.held;
  const stop = async () => {
    stopping.abort();
    await served.close();
    identity.close();
  };
  return { lease, port: served.port, stop };
}

if (process.argv[2] === "hold" || process.argv[2] === "serve") {
  process.once("message", (order: Order) => {
    const work = process.argv[2] === "hold" ? holdEcho(order) : serveRegistry(order.papers, order.registryPort);
    void work.then(({ port }) => process.send?.({ port }));
  });
  process.once("disconnect", () => process.exit());
} else tests();

function tests(): void {
  let authority: Authority;
  let registryPort = 0;
  let stopRegistry: () => Promise<void>;
  const papersOf = async (service: string): Promise<Papers> => {
    const name = `spiffe://${NODE}/service/${service}`;
    const { keyPem, csrPem } = await makeKeyAndRequest(name);
    const issued = await authority.issue({ csrPem, name, dns: ["localhost"], ips: ["127.0.0.1"], lifetimeMs: 3_600_000, client: true, server: true });
    return { service, caPem: authority.certPem, certPem: issued.certPem, keyPem };
  };
  before(async () => {
    // Here, not above: the processes that this file also is need no authority.
    const { createAuthority } = await import("../../kernel/identity/authority.ts");
    authority = await createAuthority({ node: NODE, clock: systemClock });
    const served = await serveRegistry(await papersOf("core-keeper"), 0);
    registryPort = served.port;
    stopRegistry = served.stop;
  });
  after(() => stopRegistry());

  /** Starts this file as a process of its own; it is killed when the test ends. */
  const start = async (t: TestContext, role: "hold" | "serve", order: Order): Promise<ChildProcess & { port: number }> => {
    const child = fork(import.meta.filename, [role], { execArgv: [] });
    t.after(() => child.kill("SIGKILL"));
    child.send(order);
    const [{ port }] = (await once(child, "message")) as [{ port: number }];
    return Object.assign(child, { port });
  };

  /** Follows the registry as the supervisor would, and waits for what it tells. */
  const observe = async (t: TestContext, port = registryPort) => {
    const stopping = new AbortController();
    const client = clientOf(await papersOf("node"), port);
    const waiting = new Set<(change: Change) => void>();
    const follow = followTable({ ...client, caller: "node", log: quiet, signal: stopping.signal, onChange: (change) => waiting.forEach((w) => w(change)) });
    t.after(() => {
      stopping.abort();
      client.identity.close();
    });
    await follow.first;
    const told = (what: (change: Change) => boolean) =>
      new Promise<number>((resolve) => {
        const look = (change: Change) => {
          if (!what(change)) return;
          waiting.delete(look);
          resolve(performance.now());
        };
        waiting.add(look);
      });
    const down = (instance: string) => told((c) => c.kind === "down" && c.instances[0]?.instance === instance);
    return { ...client, told, down };
  };

  test("calls are balanced; an instance killed is known gone within 100 ms, a hung one after its lease, and only the rest is called", async (t) => {
    const observer = await observe(t);
    const papers = await papersOf("core-data");
    const names = ["one", "two", "three"];
    const children = await Promise.all(names.map((instance) => start(t, "hold", { papers, registryPort, instance })));
    const client = connect(echo, { resolver: observer.resolver });
    const ask = async () => (await client.who({}, makeCall({ caller: "node", timeoutMs: 5_000 }))).instance;
    const asked = Object.fromEntries(names.map((n) => [n, 0]));
    for (let n = 0; n < 21; n++) asked[await ask()]! += 1;
    assert.deepEqual(asked, { one: 7, two: 7, three: 7 });
    for (const [n, child] of children.slice(1).entries()) {
      const known = observer.down(names[n + 1]!);
      // A pipe closes when the process is really dead: on a busy machine a killed one may wait long for the time it needs to die.
      const dead = once(child, "disconnect").then(() => performance.now());
      const startMs = performance.now();
      child.kill("SIGKILL");
      const [knownMs, deadMs] = await Promise.all([known, dead]);
      t.diagnostic(`killed: dead after ${(deadMs - startMs).toFixed(1)} ms, known to be gone ${(knownMs - deadMs).toFixed(1)} ms later`);
      assert.ok(knownMs - deadMs < 100, `${knownMs - deadMs} ms`);
    }
    for (let n = 0; n < 20; n++) assert.equal(await ask(), "one");
    await hungIsDropped(t, observer, children[0]!, "one");
  });

  /** The second half of the test above: starting a process is most of what these tests cost. */
  const hungIsDropped = async (t: TestContext, observer: Awaited<ReturnType<typeof observe>>, child: ChildProcess, instance: string) => {
    const warned = observer.told((c) => c.instances[0]?.instance === instance && c.instances[0].state === "warning");
    const known = observer.down(instance);
    const startMs = performance.now();
    child.kill("SIGSTOP");
    const warnedMs = (await warned) - startMs;
    const knownMs = (await known) - startMs;
    t.diagnostic(`hung: warned of after ${warnedMs.toFixed(0)} ms, dropped after ${knownMs.toFixed(0)} ms of a lease of ${LEASE.ttlMs} ms`);
    assert.ok(warnedMs < knownMs && knownMs > LEASE.ttlMs - LEASE.renewMs, `${warnedMs} ${knownMs}`);
    const back = observer.told((c) => c.kind === "up" && c.instances[0]?.instance === instance);
    child.kill("SIGCONT");
    await back;
  };

  test("a name other than the certificate's is refused over the wire", async (t) => {
    const { registry } = await observe(t);
    const call = makeCall({ caller: "core-data", timeoutMs: 5_000 });
    await assert.rejects(
      async () => {
        for await (const change of registry.hold({ instance: instanceOf("core-data", "liar") }, call)) assert.fail(change.kind);
      },
      (error) => error instanceof Failure && error.code === "REGISTRY_NAME_REFUSED" && error.status === 403,
    );
  });

  test("a change of health is known at once, and a release is the end", async (t) => {
    const observer = await observe(t);
    const client = clientOf(await papersOf("core-data"), registryPort);
    const stopping = new AbortController();
    let state: "passing" | "draining" = "passing";
    const lease = holdLease({ ...client, instance: () => instanceOf("core-data", "drains"), health: () => ({ state }), log: quiet, signal: stopping.signal });
    await lease.held;
    assert.equal(lease.table.of("core-data").some((e) => e.instance.instance === "drains"), true, "it finds itself");
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
    const observer = await observe(t);
    const client = clientOf(await papersOf("core-data"), registryPort);
    const stopping = new AbortController();
    const ports = [7001, 7002, 7003, 7004, 7005];
    const lease = holdLease({ ...client, instance: () => instanceOf("core-data", "moves", ports.shift()), health: () => ({ state: "passing" }), log: quiet, signal: stopping.signal, reopenMs: 60 });
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
    const keeper = await papersOf("core-keeper");
    // A port of its own, so that it comes back where it was.
    const probe = createServer().listen(0, "127.0.0.1");
    await once(probe, "listening");
    const port = (probe.address() as { port: number }).port;
    probe.close();
    const killed = await start(t, "serve", { papers: keeper, registryPort: port, instance: "" });
    const papers = await papersOf("core-data");
    const holders = await Promise.all(["left", "right"].map((instance) => holdEcho({ papers, registryPort: port, instance })));
    t.after(() => Promise.all(holders.map((h) => h.stop())));
    const observer = await observe(t, port);
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
    const again = await serveRegistry(keeper, port);
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
}
