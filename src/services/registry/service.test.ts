import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { codeOf, Held, setUp, turn } from "../../../test/houses/leases.ts";
import { instanceOf, quiet as log } from "../../../test/houses/registry.ts";
import { makeCall } from "../../kernel/call.ts";
import { makeLocalHouse } from "../../node/local.ts";
import type { Change } from "./api.ts";
import { WATCHERS_MAX } from "./audience.ts";
import { main } from "./main.ts";
import { INSTANCES_BYTES_MAX } from "./roster.ts";
import { Watcher, WATCHER_QUEUE_MAX } from "./watcher.ts";

test("a holder gets its lease, then all that is there, then what changes", async () => {
  const { running, renew } = setUp();
  const a = new Held(running, instanceOf("core-data", "a"));
  await turn();
  const watcher = new Held(running);
  const b = new Held(running, instanceOf("core-data", "b"));
  await turn();
  await renew(b, "draining", "is being stopped");
  b.call.end(true);
  await b.done;
  await turn();
  assert.deepEqual(a.words(), ["lease", "snapshot a:passing", "up b:passing", "changed b:draining", "down b:draining"]);
  assert.deepEqual(watcher.words(), ["snapshot a:passing", "up b:passing", "changed b:draining", "down b:draining"]);
  assert.deepEqual(b.words(), ["lease", "snapshot a:passing,b:passing", "changed b:draining"]);
  const revisions = a.changes.map((c) => c.revision);
  assert.deepEqual(
    revisions,
    [...revisions].sort((x, y) => x - y),
  );
  assert.deepEqual(a.changes[0].lease, { id: a.lease, ttlMs: 3_000, renewMs: 1_000 });
});

test("a service registers under the name in its certificate only, and renews nobody else's lease", async () => {
  const { running, renew } = setUp();
  assert.throws(
    () => new Held(running, instanceOf("core-data", "a"), { caller: "device-virtual" }),
    codeOf("REGISTRY_NAME_REFUSED"),
  );
  const a = new Held(running, instanceOf("core-data", "a"));
  await turn();
  assert.throws(
    () => new Held(running, instanceOf("device-virtual", "a")),
    codeOf("REGISTRY_NAME_REFUSED"),
    "an instance's name is its own",
  );
  const stranger = makeCall({ caller: "device-virtual", timeoutMs: 1_000 });
  await assert.rejects(
    running.service.renew({ body: { lease: a.lease, state: "critical" } }, stranger),
    codeOf("REGISTRY_LEASE_UNKNOWN"),
  );
  await running.service.release({ body: { lease: a.lease } }, stranger);
  await renew(a);
  assert.equal(running.counts().instances, 1);
});

test("missed renewals warn first and end the lease after its time; renewing takes the warning back", async () => {
  const { running, pass, renew } = setUp();
  const a = new Held(running, instanceOf("core-data", "a"));
  await turn();
  pass(2_100);
  assert.equal((await running.service.instances({}, a.call)).instances[0].state, "warning");
  await renew(a);
  assert.equal((await running.service.instances({}, a.call)).instances[0].state, "passing");
  pass(2_900);
  assert.equal(running.counts().instances, 1);
  pass(200);
  await a.done;
  assert.equal(running.counts().instances, 0);
  await assert.rejects(renew(a), codeOf("REGISTRY_LEASE_UNKNOWN"));
});

test("a clock that jumps ten years expires nothing", async () => {
  const { clock, running, pass, renew } = setUp();
  const a = new Held(running, instanceOf("core-data", "a"));
  await turn();
  for (const years of [10, -20]) {
    clock.wall += years * 365 * 86_400_000;
    pass(1_000);
    await renew(a);
  }
  assert.equal(running.counts().instances, 1);
  assert.deepEqual(a.words(), ["lease", "snapshot a:passing"]);
});

test("a registry that was itself held up gives everybody the whole time again", async () => {
  const { clock, running, pass } = setUp();
  const a = new Held(running, instanceOf("core-data", "a"));
  await turn();
  pass(1_000);
  clock.nowMs += 60_000;
  running.tick();
  pass(2_900);
  assert.equal(running.counts().instances, 1);
  pass(200);
  await a.done;
  assert.equal(running.counts().instances, 0);
});

test("an instance that registers again takes the place of its first registration", async () => {
  const { running } = setUp();
  const first = new Held(running, instanceOf("core-data", "a"));
  const watcher = new Held(running);
  await turn();
  const second = new Held(running, instanceOf("core-data", "a", 7001));
  await first.done;
  await turn();
  assert.equal(running.counts().instances, 1);
  assert.deepEqual(watcher.changes.at(-1)?.instances[0]?.port, 7001);
  second.call.end(true);
  await second.done;
  await turn();
  assert.equal(watcher.changes.at(-1)?.kind, "down");
});

test("the registry's main refuses a config in which no renewal could be late", async () => {
  const house = makeLocalHouse({
    node: "edge-1",
    directory: mkdtempSync(join(tmpdir(), "registry-")),
    version: "0",
    log,
    dataKey: async () => Buffer.alloc(32),
  });
  await assert.rejects(house.start(main, { ttlMs: 1_000, renewMs: 600 }), /at most half/);
  const { service } = await house.start(main);
  const { instances, revision } = await service.instances({}, makeCall({ caller: "node", timeoutMs: 1_000 }));
  assert.deepEqual(instances, []);
  assert.ok(revision > 2 ** 40 && Number.isSafeInteger(revision), `${revision}`);
  await house.stop();
});

test("releasing ends a lease at once, and twice is no error", async () => {
  const { running } = setUp();
  const a = new Held(running, instanceOf("core-data", "a"));
  await turn();
  await running.service.release({ body: { lease: a.lease } }, a.call);
  await a.done;
  await running.service.release({ body: { lease: a.lease } }, a.call);
  assert.equal(running.counts().instances, 0);
});

test("a watcher that falls behind gets a fresh snapshot instead of an endless queue", async () => {
  const watcher = new Watcher();
  const change = (revision: number, kind: Change["kind"]): Change => ({ revision, kind, instances: [] });
  let revision = 1;
  const slow = watcher.changes(() => change(revision, "snapshot"));
  const next = async () => {
    const value = (await slow.next()).value as Change | undefined;
    return value && `${value.kind} ${value.revision}`;
  };
  assert.equal(await next(), "snapshot 1");
  for (let n = 0; n <= WATCHER_QUEUE_MAX; n++) watcher.push(change(++revision, "changed"));
  assert.equal(await next(), `snapshot ${revision}`);
  watcher.push(change(revision, "changed"));
  watcher.push(change(++revision, "up"));
  assert.equal(await next(), `up ${revision}`, "what the snapshot has is not told again");
  watcher.end();
  assert.equal(await next(), undefined);
});

test("a storm of changes is told together, in order, each instance as it is in the end; one by itself at once", async () => {
  const { running, renew } = setUp();
  const a = new Held(running, instanceOf("core-data", "a"));
  const watcher = new Held(running);
  await turn();
  // What one change costs grows with those who are told of it.
  const crowd = Array.from({ length: 40 }, () => new Held(running));
  await turn();
  watcher.changes.length = 0;
  const storm = Array.from({ length: 100 }, (_, n) => new Held(running, instanceOf("s", `s${n}`)));
  await turn();
  for (let n = 0; n < 10; n++) await renew(a, "warning", `reason ${n}`);
  while (watcher.changes.at(-1)?.revision !== running.counts().revision) await new Promise((r) => setTimeout(r, 5));
  assert.ok(watcher.changes.length < 80, `${watcher.changes.length} changes`);
  const last = watcher.changes.at(-1)!;
  assert.deepEqual([last.kind, last.instances.length, last.instances[0].reason], ["changed", 1, "reason 9"]);
  const names = watcher.changes.flatMap((c) => c.instances.map((i) => i.instance));
  assert.deepEqual([...new Set(names)], [...storm.map((_, n) => `s${n}`), "a"]);
  for (const one of [a, watcher, ...crowd, ...storm]) one.call.end(true);
});

test("registrations and watchers have limits, and say so", async () => {
  const { running } = setUp();
  const large = Array.from({ length: 1024 }, (_, n) => ({
    method: "GET" as const,
    path: `/${"p".repeat(1_000)}${n}`,
    scope: "s",
    timeoutMs: 1,
    safe: true,
    operation: "o",
  }));
  const held: Held[] = [];
  assert.throws(() => {
    for (let n = 0; n < INSTANCES_BYTES_MAX / 1_000_000 + 1; n++)
      held.push(new Held(running, { ...instanceOf("big", `big-${n}`), routes: large }));
  }, codeOf("REGISTRY_FULL"));
  for (const h of held) h.call.end(true);
  await Promise.all(held.map((h) => h.done));
  const watchers: Held[] = [];
  assert.throws(() => {
    for (let n = 0; n <= WATCHERS_MAX; n++) watchers.push(new Held(running));
  }, codeOf("REGISTRY_FULL"));
  for (const w of watchers) w.call.end(true);
  await Promise.all(watchers.map((w) => w.done));
  assert.deepEqual(
    { instances: 0, watchers: 0 },
    { instances: running.counts().instances, watchers: running.counts().watchers },
  );
});
