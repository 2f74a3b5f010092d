import assert from "node:assert/strict";
import { test } from "node:test";
import { Cache } from "./cache.ts";

test("a value is loaded once, however many ask at the same time, and a failed load is not kept", async () => {
  const cache = new Cache<number>({ sizeMax: 10 });
  let loads = 0;
  const load = async () => ++loads;
  assert.deepEqual(await Promise.all([cache.get("a", load), cache.get("a", load), cache.get("a", load)]), [1, 1, 1]);
  assert.equal(await cache.get("a", load), 1);
  await assert.rejects(
    cache.get("b", () => Promise.reject(new Error("away"))),
    /away/,
  );
  assert.equal(await cache.get("b", load), 2);
  assert.deepEqual([cache.hits, cache.misses], [1, 5]);
});

test("at the limit the one longest unused goes", async () => {
  const cache = new Cache<string>({ sizeMax: 2 });
  for (const key of ["a", "b", "a", "c"]) await cache.get(key, async () => key);
  assert.deepEqual([cache.peek("a"), cache.peek("b"), cache.peek("c"), cache.size], ["a", undefined, "c", 2]);
});

test("what was being loaded when it was forgotten reaches who asked, and not the cache", async () => {
  for (const forget of [(cache: Cache<string>) => cache.forget("a"), (cache: Cache<string>) => cache.clear()]) {
    const cache = new Cache<string>({ sizeMax: 2 });
    const old = Promise.withResolvers<string>();
    const asked = cache.get("a", () => old.promise);
    forget(cache);
    const fresh = await cache.get("a", async () => "new");
    old.resolve("old");
    assert.deepEqual([await asked, fresh, cache.peek("a")], ["old", "new", "new"]);
  }
});
