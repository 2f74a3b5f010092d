/** NATS as the fleet's board: which servers are refused, and how keys are written as subjects. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { startNats } from "../../../../test/houses/brokers.ts";
import { Keeper } from "../../../../test/houses/fleet.ts";
import { codeOf } from "../../../../test/houses/leases.ts";
import { findCommand, need } from "../../../../test/need.ts";
import { NatsBoard } from "./nats.ts";
import { keyOf, tokenOf } from "./nats-watch.ts";

test(
  "a server that would not tell of ends is refused with the reason, and the node works alone",
  { skip: need("nats") },
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), "fleet-nats-"));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const { port } = await startNats(t, directory);
    const options = { tls: {}, timeoutMs: 1_000, ttlMs: 2_000, bucket: "plant", node: "a" };
    const board = new NatsBoard({ ...options, urls: [`nats://127.0.0.1:${port}`] });
    // Debian's is old; where another one is at hand, the suite runs on it.
    const said = spawnSync(findCommand("nats-server")!, ["--version"], { encoding: "utf8" }).stdout;
    if (!/v2\.([0-9]|10)\./.test(said)) return board.check();
    await assert.rejects(board.check(), (error: Error) => {
      assert.ok(codeOf("REGISTRY_FLEET_REFUSED")(error));
      assert.match(error.message, /is of version 2\.\d+\.\d+, and 2\.11 is needed: older ones tell nobody/);
      return true;
    });
    const alone = new Keeper("a", board);
    t.after(() => alone.stop());
    const held = alone.hold("core-data", "x");
    t.after(() => held.call.end(true));
    await alone.shows("core-data", ["x passing"]);
    while (!alone.fleet!.trouble) await new Promise((resolve) => setImmediate(resolve));
    assert.match(alone.fleet!.trouble, /version 2\./);
  },
);

test("a key is one token of a subject, and comes back from it", () => {
  for (const key of ["nodes/edge-1", "instances/edge 1/a.b*c>d", "nodes/größe", "a=b"]) {
    assert.match(tokenOf(key), /^[\w/=-]+$/);
    assert.equal(keyOf(tokenOf(key)), key);
  }
});
