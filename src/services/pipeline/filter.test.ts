import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { decodeBlocks, encodeBlocks } from "../../kernel/events/codec.ts";
import { rowToEvent } from "../../kernel/events/edgex.ts";
import type { Block } from "../../kernel/events/model.ts";
import { makeFilter } from "./filter.ts";
import { blocksOf } from "../../../test/houses/uplink.ts";

const all = { devices: [], profiles: [], resources: [] };
const only = (filter: Partial<typeof all> | { [key: string]: string[] }) => makeFilter({ ...all, ...filter });
/** As it arrives. */
const sent = (block: Block): Block => decodeBlocks(encodeBlocks([block]))[0];
const [a, b] = blocksOf("p", 1, 20, { devices: ["a", "b"], resources: 3 });

test("without names all passes as it is; with names only what is named", () => {
  assert.equal(only({})(a), a);
  assert.equal(only({ devices: ["a"] })(b), b);
  assert.equal(only({ devices: ["a"] })(a), undefined, "the first block is of device b");
  assert.equal(only({ profiles: ["Thermometer"] })(a), a);
  assert.equal(only({ profiles: ["Other"] })(a), undefined);
  assert.equal(only({ resources: ["other"] })(a), undefined);
  assert.equal(only({ resources: ["r0", "r1", "r2"] })(a), a);
});

test("a reading that leaves has the id, value and origin that it has on the node; the others leave no value and no name", () => {
  const ids = ["event", "one", "two", "three"];
  const [block] = blocksOf("p", 1, 20, { resources: 3 });
  block.extras.set(3, { ids, origins: [5n, 6n], readingTags: [{ secret: 1 }, { of: "r1" }], tags: { site: "x" } });
  const kept = sent(only({ resources: ["r1"] })(block)!);
  assert.ok(!Buffer.from(encodeBlocks([kept])).includes("r0"));
  assert.ok(!/secret|one|three/.test(inspect([...kept.extras], { depth: 9 })));
  for (let row = 0; row < 20; row++) {
    const [before, after] = [rowToEvent(block, row, 7), rowToEvent(kept, row, 7)];
    assert.deepEqual(after, { ...before, readings: [before.readings[1]] });
  }
});

test("an event that has no reading left does not leave, and the extras stay with their events", () => {
  const [block] = blocksOf("p", 1, 10, { resources: 2, value: (s, k) => (k === 1 && s % 2 === 0 ? undefined : s) });
  block.extras.set(4, { tags: { five: true } }).set(5, { tags: { six: true } });
  const kept = only({ resources: ["r1"] })(block)!;
  assert.deepEqual(kept.sequences, [1, 3, 5, 7, 9]);
  assert.deepEqual([...kept.extras], [[2, { tags: { five: true } }]]);
  assert.deepEqual(kept.columns[1], [1, 3, 5, 7, 9]);
  assert.equal(
    only({ resources: ["r1"] })(blocksOf("p", 2, 2, { resources: 2, value: (_, k) => (k ? undefined : 1) })[0]),
    undefined,
  );
  assert.deepEqual(block.sequences.length, 10, "what came is left as it is");
});
