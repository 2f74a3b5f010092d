/** What a process knows of a moment ago, when it starts and the registry is away. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, truncateSync, watch, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { instanceOf, quiet } from "../../../test/houses/registry.ts";
import { keepTable, Table } from "./client.ts";

const KEY = Buffer.alloc(32, 7);

function place(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), "table-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "registry-table");
  const keep = (table: Table, boot = "boot-1") => {
    const stop = keepTable(table, { path, key: KEY, boot, log: quiet });
    t.after(stop);
  };
  return { directory, path, keep };
}

const known = (boot: string, ...instances: string[]) =>
  instances.map((instance, n) => ({ ...instanceOf("core-data", instance, 7_000 + n), boot, revision: n + 1 }));

/** Fills a table and waits until it is on disk. */
async function written(t: TestContext, instances: ReturnType<typeof known>) {
  const at = place(t);
  const table = new Table();
  at.keep(table);
  const changed = new Promise<void>((resolve) => {
    const watching = watch(at.directory, (_kind, name) => {
      if (name !== "registry-table") return;
      watching.close();
      resolve();
    });
  });
  table.apply({ revision: 9, kind: "snapshot", instances });
  await changed;
  return at;
}

const recalled = (at: ReturnType<typeof place>, boot?: string) => {
  const table = new Table();
  at.keep(table, boot);
  return { table, entries: table.of("core-data").map((e) => `${e.instance.instance}:${e.confirmed}`) };
};

test("a process that starts anew knows who was where, unconfirmed until the registry goes on from there", async (t) => {
  const at = await written(t, known("boot-1", "a", "b"));
  const { table, entries } = recalled(at);
  assert.deepEqual(entries, ["a:false", "b:false"]);
  assert.equal(table.revision, 9);
  table.apply({ revision: 9, kind: "resumed", instances: [] });
  table.apply({ revision: 10, kind: "down", instances: known("boot-1", "a") });
  assert.deepEqual(
    table.of("core-data").map((e) => `${e.instance.instance}:${e.confirmed}`),
    ["b:true"],
  );
});

test("what a table already knows is not overwritten by what was kept", async (t) => {
  const at = await written(t, known("boot-1", "a"));
  const table = new Table();
  table.apply({ revision: 20, kind: "snapshot", instances: known("boot-1", "z") });
  at.keep(table);
  assert.deepEqual(
    table.of("core-data").map((e) => e.instance.instance),
    ["z"],
  );
});

test("after a power cut all that was kept is of an earlier start of the machine: nothing is taken of it", async (t) => {
  const at = await written(t, known("boot-1", "a"));
  const { table, entries } = recalled(at, "boot-2");
  assert.deepEqual(entries, []);
  assert.equal(table.revision, 0, "the next stream begins with a snapshot");
});

test("a torn file, another's or a plain one is left alone; none of it can be read without the key", async (t) => {
  const at = await written(t, known("boot-1", "canary-instance"));
  const whole = readFileSync(at.path);
  assert.equal(whole.includes("canary-instance"), false);
  for (const lengthMax of [whole.length - 1, 20, 1, 0]) {
    writeFileSync(at.path, whole);
    truncateSync(at.path, lengthMax);
    assert.deepEqual(recalled(at).entries, [], `${lengthMax} bytes`);
  }
  const bent = Buffer.from(whole);
  bent[40] ^= 1;
  writeFileSync(at.path, bent);
  assert.deepEqual(recalled(at).entries, []);
});
