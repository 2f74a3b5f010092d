/** A fleet on a real etcd of three members: what is lost with a member, with all of them, with a node, with the history. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Broker, startEtcd } from "../../../../test/houses/brokers.ts";
import { FLEET_TTL_MS, Keeper } from "../../../../test/houses/fleet.ts";
import { codeOf, Held } from "../../../../test/houses/leases.ts";
import { need } from "../../../../test/need.ts";
import { parse } from "yaml";
import { instanceOf } from "../../../../test/houses/registry.ts";
import { makeCall } from "../../../kernel/call.ts";
import { checkConfig } from "../../../kernel/config.ts";
import { makeLog } from "../../../kernel/log.ts";
import { makeLocalHouse } from "../../../node/local.ts";
import { main } from "../main.ts";
import type { Told } from "./board.ts";
import { FleetConfig } from "./config.ts";
import { makeBoard } from "./engine.ts";
import { EtcdBoard } from "./etcd.ts";
import { EtcdClient } from "./etcd-client.ts";

describe("a fleet on etcd", { skip: need("etcd") }, () => {
  const directory = mkdtempSync(join(tmpdir(), "fleet-etcd-"));
  const closing: (() => unknown)[] = [];
  let members: readonly Broker[] = [];
  let urls: readonly string[] = [];
  before(async () => {
    members = await startEtcd({ after: (work) => void closing.push(work) }, directory, 3);
    urls = members.map(({ port }) => `http://127.0.0.1:${port}`);
    // The first answer needs a leader.
    const board = boardOf("ready");
    while (
      !(await board
        .check()
        .then(() => board.write([{ key: "a", value: "b" }]))
        .then(
          () => true,
          () => false,
        ))
    )
      continue;
    board.close();
  });
  after(async () => {
    for (const close of closing) await close();
    rmSync(directory, { recursive: true, force: true });
  });
  const boardOf = (prefix: string, of = urls): EtcdBoard =>
    new EtcdBoard({ urls: of, tls: {}, timeoutMs: 1_000, ttlMs: FLEET_TTL_MS, prefix: `${prefix}/` });
  const keeper = (t: { after(work: () => unknown): void }, node: string, prefix: string, authority = node): Keeper => {
    const made = new Keeper(node, boardOf(prefix), authority);
    t.after(() => made.stop());
    return made;
  };

  test("one member of three killed: what is shown stays, and what changes is told, whichever it is", async (t) => {
    const [a, b] = [keeper(t, "node-a", "killed"), keeper(t, "node-b", "killed")];
    const held = a.hold("core-data", "x");
    t.after(() => held.call.end(true));
    await b.shows("core-data", ["x passing"]);
    const seen = new Held(b.running, undefined, {});
    for (const [n, member] of members.entries()) {
      await member.kill();
      const other = a.hold("trace", `t${n}`);
      await b.shows("trace", [`t${n} passing`], 20_000);
      other.call.end(true);
      await b.shows("trace", [], 20_000);
      await member.start();
    }
    seen.call.end(true);
    // The lease outlived each death, the leader's, too.
    assert.deepEqual(
      seen.words().filter((word) => / .*x:/.test(word) && word.startsWith("down")),
      [],
    );
  });

  test("a board that is away hurts nobody: others are kept, unverified after a while, and all is right when it is back", async (t) => {
    const [a, b] = [keeper(t, "node-a", "away"), keeper(t, "node-b", "away")];
    const [x, y] = [a.hold("core-data", "x"), b.hold("core-data", "y")];
    t.after(() => y.call.end(true));
    await b.shows("core-data", ["x passing", "y passing"]);
    await a.shows("core-data", ["x passing", "y passing"]);
    await Promise.all(members.map((member) => member.kill()));
    await b.shows("core-data", ["x unverified", "y passing"]);
    assert.match(b.instance("x")!.reason!, /cannot be seen/);
    x.call.end(true);
    const z = a.hold("core-data", "z");
    t.after(() => z.call.end(true));
    await a.shows("core-data", ["y unverified", "z passing"]);
    await Promise.all(members.map((member) => member.start()));
    await b.shows("core-data", ["y passing", "z passing"], 20_000);
    await a.shows("core-data", ["y passing", "z passing"], 20_000);
  });

  test("a node that is gone takes its instances along after the lease; a restarted registry is not missed", async (t) => {
    const [a, b] = [new Keeper("node-a", boardOf("gone")), keeper(t, "node-b", "gone")];
    const held = a.hold("core-data", "x");
    await b.shows("core-data", ["x passing"]);
    const seen = new Held(b.running, undefined, {});
    held.call.end(true);
    await b.shows("core-data", []);
    const again = a.hold("core-data", "x");
    await b.shows("core-data", ["x passing"]);
    await a.stop();
    const next = new Keeper("node-a", boardOf("gone"));
    const back = next.hold("core-data", "x");
    await b.shows("core-data", ["x passing"]);
    again.call.end(true);
    const downs = () => seen.words().filter((word) => word.startsWith("down")).length;
    assert.equal(downs(), 1);
    await next.stop();
    const startMs = performance.now();
    await b.shows("core-data", []);
    assert.ok(performance.now() - startMs < FLEET_TTL_MS + 3_000);
    back.call.end(true);
    seen.call.end(true);
  });

  test("a watch goes on where it broke off, and begins anew where etcd has compacted what came between", async () => {
    const [writer, reader] = [boardOf("watch"), boardOf("watch")];
    /** Reads until the key that ends it. */
    const read = async (last: string): Promise<string[]> => {
      const stop = new AbortController();
      const told: string[] = [];
      const wordOf = (each: Told) =>
        each.kind === "all"
          ? `all ${each.entries.map(({ key }) => key).join()}`
          : each.kind === "put"
            ? `put ${each.entry.key}`
            : `gone ${each.key}`;
      for await (const each of reader.follow(stop.signal)) {
        told.push(wordOf(each));
        if (told.at(-1)!.endsWith(last)) stop.abort();
      }
      return told;
    };
    await writer.write([{ key: "a", value: "1" }]);
    assert.deepEqual(await read("a"), ["all a"]);
    await writer.write([{ key: "b", value: "1" }]);
    await writer.write([{ key: "a" }]);
    await writer.write([{ key: "c", value: "1" }]);
    assert.deepEqual(await read("c"), ["put b", "gone a", "put c"]);
    await writer.write([{ key: "d", value: "1" }]);
    await writer.write([{ key: "e", value: "1" }]);
    const client = new EtcdClient({ urls, tls: {}, timeoutMs: 1_000 });
    const { header } = (await client.call("/v3/kv/range", { key: "AA==" })) as { header: { revision: string } };
    await client.call("/v3/kv/compaction", { revision: header.revision, physical: true });
    await assert.rejects(read("e"), /compacted/);
    assert.deepEqual(await read("e"), ["all b,c,d,e"]);
    client.close();
    writer.close();
    reader.close();
  });

  test("of two that claim a name at once one gets it; another machine of the same name is refused and says so", async (t) => {
    const boards = [boardOf("claim"), boardOf("claim"), boardOf("claim")];
    const claimed = await Promise.all(boards.map((board, n) => board.claim("nodes/x", `machine ${n}`, 0)));
    assert.equal(claimed.filter(Boolean).length, 1);
    const standing = await boards[0].read("nodes/x");
    assert.equal(standing?.value, `machine ${claimed.indexOf(true)}`);
    assert.equal(await boards[0].claim("nodes/x", "another", standing.revision + 1), false);
    for (const board of boards) board.close();
    await assert.rejects(boardOf("claim").renew(), codeOf("REGISTRY_FLEET_LEASE_LOST"));
    const [first, second] = [keeper(t, "twin", "twins", "one"), keeper(t, "other", "twins")];
    const held = first.hold("core-data", "x");
    t.after(() => held.call.end(true));
    await second.shows("core-data", ["x passing"]);
    const twin = keeper(t, "twin", "twins", "two");
    const own = twin.hold("trace", "mine");
    t.after(() => own.call.end(true));
    while (!twin.fleet!.trouble) await new Promise((resolve) => setImmediate(resolve));
    assert.match(twin.fleet!.trouble, /another machine calls itself 'twin'/);
    assert.deepEqual(second.shown("trace"), []);
  });

  test("the config of docs/registry.md makes a fleet of two nodes; one that names a machine without TLS is refused", async (t) => {
    const page = readFileSync(join(import.meta.dirname, "../../../../docs/registry.md"), "utf8");
    const text = /```yaml\n(core-keeper:\n {2}fleet:.*?)```/s.exec(page)![1];
    const { fleet } = (parse(text) as { "core-keeper": { fleet: Record<string, unknown> } })["core-keeper"];
    // The page's members speak TLS and are elsewhere: these are here.
    const { caFile: _, certFile: __, keyFile: ___, ...rest } = fleet;
    const start = async (node: string) => {
      const log = makeLog("test", { to: { write: () => {} } });
      const dataKey = async () => Buffer.alloc(32, 1);
      const house = makeLocalHouse({ node, version: "0", log, dataKey, directory: join(directory, node) });
      t.after(() => house.stop());
      return house.start(main, { fleet: { ...rest, urls } as never });
    };
    const [a, b] = await Promise.all([start("plant-a"), start("plant-b")]);
    const call = makeCall({ caller: "core-data", timeoutMs: Number.POSITIVE_INFINITY });
    const held = a.service.hold({ instance: instanceOf("core-data", "x") }, call)[Symbol.asyncIterator]();
    await held.next();
    for await (const { instances } of b.service.watch({}, call)) {
      const [found] = instances;
      if (!found) continue;
      assert.deepEqual([found.instance, found.node, found.check], ["plant-a/x", "plant-a", "node"]);
      break;
    }
    call.end(true);
    await held.return?.();
    const config = checkConfig(
      FleetConfig,
      { engine: "etcd", urls: ["http://10.0.0.11:2379"] },
      "fleet",
    ) as FleetConfig;
    await assert.rejects(makeBoard({ config, secrets: {}, node: "x" }), codeOf("REGISTRY_FLEET_REFUSED"));
  });
});
