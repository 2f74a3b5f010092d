/** One suite over all that can hold the table: this registry alone, and registries of two nodes on etcd and on NATS. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { after, before, describe, test } from "node:test";
import { startEtcd, startNats } from "../../../../test/houses/brokers.ts";
import { FLEET_TTL_MS, Keeper } from "../../../../test/houses/fleet.ts";
import { Held, codeOf } from "../../../../test/houses/leases.ts";
import { instanceOf } from "../../../../test/houses/registry.ts";
import { findCommand, need } from "../../../../test/need.ts";
import { makeCall } from "../../../kernel/call.ts";
import type { Board } from "./board.ts";
import { EtcdBoard } from "./etcd.ts";
import { NatsBoard } from "./nats.ts";

const directory = mkdtempSync(join(tmpdir(), "fleet-"));
const closing: (() => unknown)[] = [];
after(async () => {
  for (const close of closing) await close();
  rmSync(directory, { recursive: true, force: true });
});
/** Of the file: an "after" that is said within a "before" is one of that hook's. */
const atEnd = { after: (work: () => unknown) => void closing.push(work) };

interface Kind {
  readonly name: string;
  readonly skip: string | false;
  /** Answers how a node of it makes its board. */
  readonly start: () => Promise<() => Board | undefined>;
}

/** Debian's is not: what runs there is the refusal (nats.test.ts), and this suite where a new enough server is at hand. */
function isNewEnough(): boolean {
  const command = findCommand("nats-server");
  const said = command === undefined ? "" : spawnSync(command, ["--version"], { encoding: "utf8" }).stdout;
  const [, major = 0, minor = 0] = /v(\d+)\.(\d+)/.exec(said) ?? [];
  return Number(major) * 1_000 + Number(minor) >= 2_011;
}

const KINDS: readonly Kind[] = [
  { name: "alone", skip: false, start: async () => () => undefined },
  {
    name: "etcd",
    skip: need("etcd"),
    async start() {
      const [{ port }] = await startEtcd(atEnd, directory);
      const urls = [`http://127.0.0.1:${port}`];
      return () => new EtcdBoard({ urls, tls: {}, timeoutMs: 1_500, ttlMs: FLEET_TTL_MS, prefix: "suite/" });
    },
  },
  {
    name: "nats",
    skip: false,
    async start() {
      const { port } = await startNats(atEnd, directory);
      const urls = [`nats://127.0.0.1:${port}`];
      return () => new NatsBoard({ urls, tls: {}, timeoutMs: 1_500, ttlMs: FLEET_TTL_MS, bucket: "suite", node: "x" });
    },
  },
];

/** Resolves when nodes show themselves on a board. */
async function standing(board: Board | undefined, nodes: readonly string[]): Promise<void> {
  // It fails where the first of them has not made the bucket yet.
  const isThere = async (node: string) => (await board!.read(`nodes/${node}`).catch(() => undefined)) !== undefined;
  if (board) while (!(await Promise.all(nodes.map(isThere))).every(Boolean)) await sleep(50);
  board?.close();
}

for (const { name, skip, start } of KINDS.filter((kind) => kind.name !== "nats" || isNewEnough())) {
  describe(`on ${name}`, { skip }, () => {
    /** Where holders register, and where it is looked; the same where there is one. */
    let here: Keeper;
    let there: Keeper;
    before(async () => {
      const board = await start();
      here = new Keeper("node-a", board());
      there = here.fleet ? new Keeper("node-b", board()) : here;
      await standing(board(), ["node-a", "node-b"]);
    });
    after(async () => {
      await here.stop();
      if (there !== here) await there.stop();
    });
    const hold = (service: string, id: string) => here.hold(service, id);
    const renew = (held: Held, state: "passing" | "warning" | "draining", reason?: string, weight?: number) =>
      here.running.service.renew(
        {
          body: {
            lease: held.lease,
            state,
            ...(reason ? { reason } : {}),
            ...(weight === undefined ? {} : { weight }),
          },
        },
        held.call,
      );

    test("what registers, changes and ends in order is seen so", async () => {
      const held = new Held(here.running, instanceOf("core-data", "a"));
      await there.shows("core-data", ["a passing"]);
      await renew(held, "warning", "slow", 7);
      await there.shows("core-data", ["a warning"]);
      const { reason, weight, host, port, version } = there.instance("a")!;
      assert.deepEqual([reason, weight, host, port, version], ["slow", 7, "127.0.0.1", 7000, "0"]);
      await here.running.service.release({ body: { lease: held.lease } }, held.call);
      await there.shows("core-data", []);
    });

    test("a broken connection is a death at once, a hung holder is warned of and then gone", async () => {
      const held = hold("core-data", "b");
      await there.shows("core-data", ["b passing"]);
      const startMs = performance.now();
      held.call.end(true);
      await there.shows("core-data", []);
      assert.ok(performance.now() - startMs < 1_000);
      const hung = new Held(here.running, instanceOf("core-data", "c"));
      await there.shows("core-data", ["c warning"]);
      await there.shows("core-data", []);
      await hung.done;
    });

    test("an instance belongs to the service that registered it; the same service takes its place again", async () => {
      const first = hold("core-data", "d");
      await there.shows("core-data", ["d passing"]);
      assert.throws(() => hold("trace", "d"), codeOf("REGISTRY_NAME_REFUSED"));
      const second = new Held(here.running, { ...instanceOf("core-data", "d", 7_001), state: "draining" });
      await there.shows("core-data", ["d draining"]);
      assert.equal(there.instance("d")?.port, 7_001);
      await first.done;
      second.call.end(true);
      await there.shows("core-data", []);
    });

    test("out of use there is out of use here", async () => {
      const held = hold("core-data", "e");
      await there.shows("core-data", ["e passing"]);
      const told = there.running.service.instances(
        { service: "core-data", after: there.running.roster.list("core-data").revision, waitMs: 10_000 },
        makeCall({ caller: "node", timeoutMs: 15_000 }),
      );
      await here.running.service.maintain({ body: { name: "core-data", on: true } }, held.call);
      assert.deepEqual(
        (await told).instances.map(({ maintenance }) => maintenance),
        [true],
      );
      await here.running.service.maintain({ body: { name: "core-data", on: false } }, held.call);
      held.call.end(true);
      await there.shows("core-data", []);
    });

    test("a watcher goes on where it broke off; a revision that is not known is 410", async () => {
      const earlier = new Held(there.running);
      const held = hold("core-data", "f");
      await there.shows("core-data", ["f passing"]);
      const { revision } = there.running.counts();
      earlier.call.end(true);
      held.call.end(true);
      await there.shows("core-data", []);
      const later = new Held(there.running, undefined, { after: revision });
      await there.shows("core-data", []);
      assert.deepEqual(later.words().slice(0, 1), ["resumed"]);
      assert.match(later.words()[1], /^down .*f:passing$/);
      later.call.end(true);
      assert.throws(() => new Held(there.running, undefined, { after: 1 }), codeOf("REGISTRY_REVISION_GONE"));
    });

    test("sixty that come and go at once are seen as they are in the end", async () => {
      const helds = Array.from({ length: 60 }, (_, n) => hold("device-x", `n${String(n).padStart(2, "0")}`));
      await there.shows(
        "device-x",
        helds.map((_, n) => `n${String(n).padStart(2, "0")} passing`),
      );
      for (const [n, held] of helds.entries()) if (n % 3 !== 0) held.call.end(true);
      const left = [...helds.keys()].filter((n) => n % 3 === 0);
      await there.shows(
        "device-x",
        left.map((n) => `n${String(n).padStart(2, "0")} passing`),
      );
      for (const held of helds) held.call.end(true);
      await there.shows("device-x", []);
    });
  });
}
