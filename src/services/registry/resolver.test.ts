import assert from "node:assert/strict";
import { Agent } from "node:https";
import { test } from "node:test";
import type { Clock } from "../../kernel/clock.ts";
import type { Target } from "../../kernel/connect.ts";
import { Failure } from "../../kernel/error.ts";
import type { Change, Instance, State } from "./api.ts";
import { EJECT_MS, GONE_WAIT_MS, makeResolver, START_WAIT_MS } from "./resolver.ts";
import { Table } from "./table.ts";

const agent = new Agent();

function setUp() {
  const clock: Clock & { nowMs: number } = {
    nowMs: 100,
    monotonicMs: () => clock.nowMs,
    wallMs: () => 0,
    wallNs: () => 0n,
  };
  const table = new Table();
  let revision = 0;
  const tell = (kind: Change["kind"], ...instances: Instance[]) =>
    table.apply({ revision: ++revision, kind, instances });
  const resolver = makeResolver({
    table,
    identity: { agent: () => agent },
    fixed: { identity: { host: "127.0.0.1", port: 1 } },
    clock,
  });
  const picks = (service: string, count: number) =>
    Array.from({ length: count }, () => (resolver.pick(service) as Target).instance);
  return { clock, table, resolver, tell, picks };
}

const instanceOf = (instance: string, state: State = "passing", service = "core-data"): Instance => ({
  service,
  instance,
  host: "127.0.0.1",
  port: 7000,
  pid: 1,
  version: "0",
  startedAtMs: 0,
  state,
  routes: [],
});

const isUnavailable = (error: unknown) => error instanceof Failure && error.code === "UNAVAILABLE";

test("calls take turns over the passing instances; warning ones are for when there is no passing one, draining ones for the last resort", () => {
  const { tell, picks } = setUp();
  tell(
    "snapshot",
    instanceOf("a"),
    instanceOf("b"),
    instanceOf("c", "warning"),
    instanceOf("d", "draining"),
    instanceOf("e", "critical"),
  );
  assert.deepEqual(picks("core-data", 4), ["a", "b", "a", "b"]);
  tell("down", instanceOf("a"), instanceOf("b"));
  assert.deepEqual(picks("core-data", 2), ["c", "c"]);
  tell("down", instanceOf("c"));
  assert.deepEqual(picks("core-data", 2), ["d", "d"]);
});

test("a target that failed is left alone for a while, longer each time, unless all failed", () => {
  const { clock, tell, picks, resolver } = setUp();
  tell("snapshot", instanceOf("a"), instanceOf("b"));
  const targetOf = (id: string) =>
    [resolver.pick("core-data"), resolver.pick("core-data")].find((t) => (t as Target).instance === id) as Target;
  const a = targetOf("a");
  const b = targetOf("b");
  resolver.failed("core-data", a);
  assert.deepEqual(new Set(picks("core-data", 4)), new Set(["b"]));
  clock.nowMs += EJECT_MS;
  assert.deepEqual(new Set(picks("core-data", 4)), new Set(["a", "b"]));
  resolver.failed("core-data", a);
  clock.nowMs += EJECT_MS;
  assert.deepEqual(new Set(picks("core-data", 4)), new Set(["b"]), "the second time is twice as long");
  resolver.failed("core-data", b);
  assert.equal(picks("core-data", 1).length, 1, "all failed: one is tried nevertheless");
  tell("changed", instanceOf("b"));
  clock.nowMs += EJECT_MS * 2;
  assert.deepEqual(new Set(picks("core-data", 4)), new Set(["a", "b"]));
});

test("a service that has not registered yet is waited for while the process is young", async () => {
  const { clock, tell, resolver } = setUp();
  const first = resolver.pick("core-data");
  const second = resolver.pick("core-data");
  assert.equal(first, second, "one promise for all who wait");
  tell("up", instanceOf("x", "passing", "another"));
  tell("up", instanceOf("a"));
  assert.equal((await first).instance, "a");
  clock.nowMs += START_WAIT_MS;
  assert.throws(() => resolver.pick("core-metadata"), isUnavailable);
});

test("a service whose last instance went is waited for shortly, then calls fail at once", async () => {
  const { clock, tell, resolver } = setUp();
  tell("snapshot", instanceOf("a"));
  assert.equal((resolver.pick("core-data") as Target).instance, "a");
  clock.nowMs += START_WAIT_MS;
  tell("down", instanceOf("a"));
  clock.nowMs += GONE_WAIT_MS / 2;
  const waiting = resolver.pick("core-data");
  tell("up", instanceOf("b"));
  assert.equal((await waiting).instance, "b");
  tell("down", instanceOf("b"));
  clock.nowMs += GONE_WAIT_MS;
  assert.throws(() => resolver.pick("core-data"), isUnavailable);
});

test("services with a fixed address need no registry", () => {
  const { resolver, picks } = setUp();
  assert.deepEqual(picks("identity", 2), [undefined, undefined]);
  assert.equal((resolver.pick("identity") as Target).port, 1);
});

test("a new registry's first snapshot forgets nobody at once, and the confirmed go first", () => {
  const { table, tell, picks } = setUp();
  table.beginStream();
  tell("snapshot", instanceOf("a"), instanceOf("b"), instanceOf("x", "passing", "another"));
  table.beginStream();
  tell("snapshot", instanceOf("b"));
  assert.deepEqual(new Set(picks("core-data", 4)), new Set(["b"]));
  assert.deepEqual(picks("another", 1), ["x"], "it has not registered again yet, and is used meanwhile");
  tell("up", instanceOf("a"));
  assert.deepEqual(new Set(picks("core-data", 4)), new Set(["a", "b"]));
  table.settle();
  assert.deepEqual(
    table
      .instances()
      .map((i) => i.instance)
      .sort(),
    ["a", "b"],
  );
  tell("snapshot", instanceOf("a"));
  assert.deepEqual(
    table.instances().map((i) => i.instance),
    ["a"],
    "a later snapshot of the same stream is the whole truth",
  );
});

test("a pick costs less than a microsecond", (t) => {
  const { tell, resolver } = setUp();
  tell(
    "snapshot",
    ...Array.from({ length: 8 }, (_, n) => instanceOf(`i${n}`)),
    ...Array.from({ length: 20 }, (_, n) => instanceOf(`o${n}`, "passing", `other-${n}`)),
  );
  const rounds = 200_000;
  let best = Number.POSITIVE_INFINITY;
  for (let block = 0; block < 5; block++) {
    const startMs = performance.now();
    for (let n = 0; n < rounds; n++) void resolver.pick("core-data");
    best = Math.min(best, ((performance.now() - startMs) * 1e6) / rounds);
  }
  t.diagnostic(`${best.toFixed(0)} ns a pick`);
  assert.ok(best < 1_000, `${best} ns`);
});

test("calls are shared by weight, never all of one's in a row; one of none gets what nobody else can take", () => {
  const { tell, picks } = setUp();
  tell(
    "snapshot",
    { ...instanceOf("a"), weight: 300 },
    instanceOf("b"),
    { ...instanceOf("c"), weight: 200 },
    { ...instanceOf("none"), weight: 0 },
  );
  const turns = picks("core-data", 600);
  const count = (name: string) => turns.filter((turn) => turn === name).length;
  assert.deepEqual([count("a"), count("b"), count("c"), count("none")], [300, 100, 200, 0]);
  assert.ok(!/a,a,a/.test(turns.join(",")), turns.slice(0, 12).join(","));
  tell("down", instanceOf("a"), instanceOf("b"), instanceOf("c"));
  assert.deepEqual(picks("core-data", 2), ["none", "none"]);
});

test("nobody is sent to what an operator took out of use, or to a stranger without certificate; what is unverified comes late", () => {
  const { tell, picks, resolver, clock } = setUp();
  const stranger = { ...instanceOf("~x"), check: "http" as const };
  tell("snapshot", { ...instanceOf("out"), maintenance: true }, stranger, {
    ...instanceOf("unverified"),
    state: "unverified",
  });
  assert.deepEqual(picks("core-data", 2), ["unverified", "unverified"]);
  tell("up", instanceOf("slow", "warning"));
  assert.deepEqual(picks("core-data", 2), ["slow", "slow"]);
  tell("down", instanceOf("slow"));
  tell("down", instanceOf("unverified"));
  clock.nowMs += START_WAIT_MS + GONE_WAIT_MS;
  assert.throws(() => resolver.pick("core-data"), isUnavailable);
});
