/** One that is lost is dead; when most are lost at once the registry doubts itself, with a deadline. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Held, setUp, turn } from "../../../test/houses/leases.ts";
import { instanceOf } from "../../../test/houses/registry.ts";

const PRESERVE_MS = 10_000;

async function house(count: number) {
  const set = setUp({ preserveMs: PRESERVE_MS });
  const held = Array.from({ length: count }, (_, n) => new Held(set.running, instanceOf("s", `i${n}`, 7_000 + n)));
  await turn();
  const watcher = new Held(set.running);
  await turn();
  const states = async () => {
    const { instances } = await set.running.service.instances({}, watcher.call);
    return instances.map((i) => `${i.instance}:${i.state}`);
  };
  return { ...set, held, watcher, states };
}

test("some that die are gone at once", async () => {
  const { held, states } = await house(10);
  for (const one of held.slice(0, 4)) one.call.end(true);
  await turn();
  assert.equal((await states()).length, 6);
});

test("most that are lost at once are kept as unverified, come back, or are gone at the deadline", async () => {
  const { running, held, states, pass, renew } = await house(8);
  for (const one of held.slice(0, 6)) one.call.end(true);
  await turn();
  const unverified = (await states()).filter((s) => s.endsWith(":unverified"));
  assert.equal(unverified.length, 6, "those that were lost before the registry began to doubt as well");
  const back = new Held(running, instanceOf("s", "i0", 7_000));
  const other = new Held(running, instanceOf("s", "new", 7_001));
  await turn();
  assert.deepEqual(
    (await states()).filter((s) => /:(i0|i1|new)/.test(`:${s}`)),
    ["i0:passing", "new:passing"],
    "one came back, one's address is another's now",
  );
  const alive = [...held.slice(6), back, other];
  for (let passed = 0; passed < PRESERVE_MS; passed += 1_000) {
    assert.ok((await states()).includes("i5:unverified"));
    pass(1_000);
    await Promise.all(alive.map((one) => renew(one)));
  }
  assert.deepEqual(await states(), ["i0:passing", "i6:passing", "i7:passing", "new:passing"]);
});

test("those that deregister in order are not missed, however many", async () => {
  const { running, held, states } = await house(8);
  for (const one of held) await running.service.release({ body: { lease: one.lease } }, one.call);
  await turn();
  assert.deepEqual(await states(), []);
});

test("when most are late at once their leases are kept until the deadline: a crowd that registers anew is slower still", async () => {
  const { held, states, pass, renew } = await house(8);
  const late = held.slice(3);
  const pace = async (ms: number, alive: readonly Held[]) => {
    for (let passed = 0; passed < ms; passed += 500) {
      pass(500);
      await Promise.all(alive.map((one) => renew(one)));
    }
  };
  await pace(3_500, held.slice(0, 3));
  assert.equal((await states()).filter((s) => s.endsWith(":unverified")).length, 5);
  await renew(late[0]);
  await renew(late[1]);
  assert.deepEqual((await states()).slice(3, 5), ["i3:passing", "i4:passing"], "they kept their leases");
  await pace(500, held.slice(0, 5));
  assert.deepEqual(
    (await states()).map((s) => s.slice(0, 2)),
    ["i0", "i1", "i2", "i3", "i4"],
    "those that are few are dead",
  );
  await pace(3_500, []);
  assert.equal((await states()).filter((s) => s.endsWith(":unverified")).length, 5);
  await pace(PRESERVE_MS, []);
  assert.deepEqual(await states(), []);
});
