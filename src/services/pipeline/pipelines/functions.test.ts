import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { decodeBlocks, encodeBlocks } from "../../../kernel/events/codec.ts";
import { rowToEvent } from "../../../kernel/events/edgex.ts";
import type { Block, Value, ValueType } from "../../../kernel/events/model.ts";
import { blocksOf } from "../../../../test/houses/uplink.ts";
import { Chain } from "./chain.ts";
import type { FunctionSpec } from "./definition.ts";

const pseudonymKey = Buffer.alloc(32, 5);
const chain = (...functions: FunctionSpec[]) => new Chain(functions, { pipeline: "p", pseudonymKey });
const one = (block: Block, ...functions: FunctionSpec[]): Block | undefined => chain(...functions).push([block])[0];
/** As it arrives. */
const sent = (block: Block): Block => decodeBlocks(encodeBlocks([block]))[0];
const [b, a] = blocksOf("p", 1, 20, { devices: ["a", "b"], resources: 3 });
const byResource = (...resourceNames: string[]): FunctionSpec => ({
  function: "FilterByResourceName",
  resourceNames,
  filterOut: false,
});

/** A block of one device with one column, as a type of EdgeX's. */
function column(valueType: ValueType, values: readonly Value[]): Block {
  const [block] = blocksOf("p", 1, values.length, { value: (s) => values[s - 1] });
  return { ...block, series: { ...block.series, resources: [{ name: "r0", valueType }] } };
}

test("without names all passes as it is; with names what is named, or with filterOut what is not", () => {
  const device = (filterOut: boolean, ...deviceNames: string[]): FunctionSpec => ({
    function: "FilterByDeviceName",
    deviceNames,
    filterOut,
  });
  assert.equal(one(a), a);
  assert.equal(one(a, device(false)), a);
  assert.equal(one(a, device(false, "a")), a);
  assert.equal(one(b, device(false, "a")), undefined);
  assert.equal(one(a, device(true, "a")), undefined);
  assert.equal(one(b, device(true, "a")), b);
  const profile = (name: string): FunctionSpec => ({
    function: "FilterByProfileName",
    profileNames: [name],
    filterOut: false,
  });
  assert.equal(one(a, profile("Thermometer")), a);
  assert.equal(one(a, profile("Other")), undefined);
  assert.equal(one(a, { function: "FilterBySourceName", sourceNames: ["All"], filterOut: true }), undefined);
  assert.equal(one(a, byResource("other")), undefined);
  assert.equal(one(a, byResource("r0", "r1", "r2")), a);
});

test("a reading that leaves has the id, value and origin that it has on the node; the others leave no value and no name", () => {
  const ids = ["event", "one", "two", "three"];
  const [block] = blocksOf("p", 1, 20, { resources: 3 });
  block.extras.set(3, { ids, origins: [5n, 6n], readingTags: [{ secret: 1 }, { of: "r1" }], tags: { site: "x" } });
  const kept = sent(one(block, byResource("r1"))!);
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
  const kept = one(block, byResource("r1"))!;
  assert.deepEqual(kept.sequences, [1, 3, 5, 7, 9]);
  assert.deepEqual([...kept.extras], [[2, { tags: { five: true } }]]);
  assert.deepEqual(kept.columns[1], [1, 3, 5, 7, 9]);
  const [none] = blocksOf("p", 2, 2, { resources: 2, value: (_, k) => (k ? undefined : 1) });
  assert.equal(one(none, byResource("r1")), undefined);
  assert.equal(block.sequences.length, 10, "what came is left as it is");
});

test("AddTags puts tags on every event, beside those that it has; JSONLogic lets events pass for which it holds", () => {
  const [block] = blocksOf("p", 1, 10, { resources: 2 });
  block.extras.set(0, { requestId: "r", tags: { site: "old", line: 1 } });
  const tagged = sent(one(block, { function: "AddTags", tags: { site: "north" } })!);
  assert.deepEqual(tagged.extras.get(0), { requestId: "r", tags: { site: "north", line: 1 } });
  assert.deepEqual(tagged.extras.get(9), { tags: { site: "north" } });
  const rule = { and: [{ ">": [{ var: "values.r0" }, 3] }, { "==": [{ var: "deviceName" }, "d1"] }] };
  assert.deepEqual(one(block, { function: "JSONLogic", rule })!.sequences, [4, 5, 6, 7, 8, 9, 10]);
  const some = { some: [{ var: "readings" }, { "==": [{ var: "value" }, 2] }] };
  assert.deepEqual(one(block, { function: "JSONLogic", rule: some })!.sequences, [2]);
});

test("a condition that is no JSONLogic, that prints, or that is huge, is refused by name", () => {
  const refused = (rule: { [key: string]: unknown }, message: RegExp) =>
    assert.throws(() => chain({ function: "JSONLogic", rule }), { code: "PIPELINE_LOGIC_INVALID", message });
  refused({ log: "x" }, /'log' is no operator/);
  refused({ constructor: ["x"] }, /'constructor' is no operator/);
  refused({ ">": [{ var: "x", "==": 1 }, 2] }, /one operator/);
  let deep: { [key: string]: unknown } = { var: "x" };
  for (let n = 0; n < 40; n++) deep = { "!": deep };
  refused(deep, /levels/);
  refused({ or: new Array(2_000).fill(true) }, /1000 nodes/);
});

test("Drop leaves no trace of resources and tags", () => {
  const [block] = blocksOf("p", 1, 3, { resources: 2 });
  block.extras.set(0, { tags: { owner: "Ada", site: "x" }, readingTags: [{ owner: "Ada" }, { owner: "Ada", k: 1 }] });
  block.extras.set(1, { tags: { owner: "Ada" } });
  const left = sent(one(block, { function: "Drop", resources: ["r0"], tags: ["owner"] })!);
  assert.ok(!/Ada|owner|r0/.test(inspect(left, { depth: 9 })));
  assert.deepEqual(left.extras.get(0), { tags: { site: "x" }, readingTags: [undefined, { k: 1 }] });
  assert.equal(left.extras.has(1), false);
});

test("Coarsen rounds numbers to a step, and integers towards zero, so that they stay within their type", () => {
  const by = (step: number): FunctionSpec => ({ function: "Coarsen", resources: [], step });
  assert.deepEqual(one(column("Float64", [0.24, 0.26, -3.18159, null, "1.20"]), by(0.1))!.columns[0], [
    0.2,
    0.3,
    -3.2,
    null,
    1.2,
  ]);
  assert.deepEqual(one(column("Uint8", [255, 7]), by(100))!.columns[0], [200, 0]);
  assert.deepEqual(one(column("Int8", [-128, 127]), by(50))!.columns[0], [-100, 100]);
  assert.deepEqual(one(column("Int64", [-(2n ** 62n)]), by(1000))!.columns[0], [-4611686018427387000n]);
  assert.deepEqual(one(column("String", ["12.7"]), by(1))!.columns[0], ["12.7"], "a text is no number");
  assert.deepEqual(one(column("Float64Array", [[1.23, 4.56]]), by(0.5))!.columns[0], [[1, 4.5]]);
});

test("Coarsen takes times down to a step, and rounds positions in objects and tags", () => {
  const block = column("Object", [{ gps: { lat: 52.520008, lon: 13.404954 }, speed: 7.123 }]);
  block.extras.set(0, { tags: { Latitude: 29.630771, Longitude: "-95.377603" }, origins: [1_234_567_890n] });
  const spec: FunctionSpec = { function: "Coarsen", resources: [], timeStepMs: 60_000, geoDecimals: 2 };
  const left = one(block, spec)!;
  assert.deepEqual(left.columns[0], [{ gps: { lat: 52.52, lon: 13.4 }, speed: 7.123 }]);
  assert.deepEqual(left.extras.get(0)!.tags, { Latitude: 29.63, Longitude: "-95.38" });
  assert.deepEqual([left.origins[0] % 60_000_000_000n, left.extras.get(0)!.origins], [0n, [0n]]);
  assert.ok(block.origins[0] - left.origins[0] < 60_000_000_000n && block.origins[0] !== left.origins[0]);
});

test("Pseudonym replaces device names and texts: the same for the same, on one node alone, and not to be guessed", () => {
  const spec: FunctionSpec = { function: "Pseudonym", device: true, resources: ["r0"] };
  const block = column("String", ["Ada", "Bob", "Ada", null]);
  const left = one(block, spec)!;
  assert.match(left.series.deviceName, /^device-[0-9a-f]{24}$/);
  const [ada, bob, again, none] = left.columns[0];
  assert.ok(ada === again && ada !== bob && none === null && /^[0-9a-f]{24}$/.test(String(ada)));
  const other = new Chain([spec], { pipeline: "p", pseudonymKey: Buffer.alloc(32, 6) }).push([block])[0];
  assert.ok(other.columns[0][0] !== ada && other.series.deviceName !== left.series.deviceName);
  assert.ok(!Buffer.from(encodeBlocks([left])).includes("Ada"));
});

test("each function tells what it took and what it left, and a reduction its largest error", () => {
  const steps = chain(byResource("r0"), {
    function: "Deadband",
    resources: ["*"],
    tolerance: 2,
  });
  steps.push(blocksOf("p", 1, 100, { resources: 2 }));
  const [filter, deadband] = steps.report();
  assert.deepEqual([filter.readingsIn, filter.readingsOut], [200, 100]);
  assert.deepEqual([deadband.readingsIn, deadband.readingsOut, deadband.errorMax], [100, 34, 2]);
});
