/** docs/pipelines.md: each of its examples is the config of a node, and does what the page says. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readConfig } from "../src/kernel/config-file.ts";
import { BlockBuilder } from "../src/kernel/events/blocks.ts";
import { encodeBlocks } from "../src/kernel/events/codec.ts";
import type { Block, Series } from "../src/kernel/events/model.ts";
import { main as pipelineMain } from "../src/services/pipeline/main.ts";
import type { PipelineDefinition } from "../src/services/pipeline/pipelines/definition.ts";
import type { RuleDefinition } from "../src/services/pipeline/rules/definition.ts";
import { Watch } from "../src/services/pipeline/rules/watch.ts";
import { PipelineRig } from "./houses/pipelines.ts";
import { call, temporary, until } from "./houses/uplink.ts";

interface Example {
  readonly pipelines: Readonly<Record<string, PipelineDefinition>>;
  readonly rules: Readonly<Record<string, RuleDefinition>>;
}

const page = readFileSync(join(import.meta.dirname, "../docs/pipelines.md"), "utf8");
const examples = [...page.matchAll(/```yaml\n(.*?)```/gs)].map(([, text], at) => {
  const sections = [{ key: "pipeline", schema: pipelineMain.config as never }];
  return readConfig(text, `example ${at + 1}`, sections)["pipeline"] as Example;
});
/** The example that has a pipeline or a rule of this name. */
const example = (name: string): Example =>
  examples.find(({ pipelines, rules }) => name in pipelines || name in rules) ??
  assert.fail(`no example has '${name}'`);

const PUMP: Series = {
  deviceName: "pump-1",
  profileName: "Pump",
  sourceName: "All",
  resources: [
    {
      name: "Pressure",
      valueType: "Float64",
    },
    {
      name: "Flow",
      valueType: "Float64",
    },
    {
      name: "Operator",
      valueType: "String",
    },
    {
      name: "Badge",
      valueType: "String",
    },
  ],
};

/** What a pump says each second for three minutes: its pressure goes from 5.0 to 9.5 and back. */
async function pump(rig: PipelineRig): Promise<void> {
  const builder = new BlockBuilder({ publisher: { name: "device-pump", epoch: 1 } });
  for (let s = 1; s <= 180; s++) {
    const tags = { owner: "Ada", Latitude: 29.630771 };
    const values = [5 + (s % 91) / 20, 1.234, "Ada", `badge ${s % 3}`];
    builder.add(PUMP, s, 1_700_000_000_000_000_000n + BigInt(s) * 1_000_000_000n, values, { tags });
  }
  const builder2 = new BlockBuilder({ publisher: { name: "device-pump", epoch: 1 } });
  builder2.add({ ...PUMP, deviceName: "other", profileName: "Other" }, 181, 1_700_000_200_000_000_000n, [
    9.9,
    1,
    "",
    "",
  ]);
  await rig.appendBytes("device-pump", encodeBlocks(builder.blocks()));
  await rig.appendBytes("device-pump", encodeBlocks(builder2.blocks()));
}

const blocks = async (rig: PipelineRig, pipeline: string): Promise<Block[]> =>
  (await rig.batches(pipeline)).flatMap(({ content }) => content);

test("the first example sends minima, maxima and means of a minute, and alarms at once", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  rig.start(example("pressures").pipelines);
  await pump(rig);
  await until("windows are told", async () => (await blocks(rig, "pressures")).length > 0);
  await until("alarms are told", async () => (await rig.sequences("alarms")).length >= 20);
  await rig.pipelines.remove("pressures");
  await until("the rest is told", () => rig.store.pipelines.load("pressures") === undefined);
  const windows = await blocks(rig, "pressures");
  const names = new Set(windows.flatMap(({ series }) => series.resources.map(({ name }) => name)));
  assert.ok(
    [...names].some((name) => /Pressure.*max/i.test(name)) && [...names].some((name) => /Flow.*mean/i.test(name)),
  );
  assert.ok(
    [...names].every((name) => name === "" || /Pressure|Flow/.test(name)),
    [...names].join(),
  );
  assert.ok(windows.every(({ series }) => series.deviceName === "pump-1"));
  assert.ok(
    windows.every(({ extras, sequences }) => sequences.every((_, row) => extras.get(row)?.tags?.["site"] === "north")),
  );
  const largest = windows.flatMap(({ series, columns }) =>
    series.resources.flatMap(({ name }, k) => (/Pressure.*max/i.test(name) ? columns[k].map(Number) : [])),
  );
  assert.ok(largest.length >= 3 && Math.max(...largest) === 9.5);
  const alarms = await blocks(rig, "alarms");
  const pressures = alarms.flatMap(({ columns }) => columns[0].map(Number));
  assert.equal(pressures.length, 20, "those over 9, of all devices");
  assert.ok(pressures.every((value) => value > 9));
  assert.ok((await rig.batches("alarms")).every(({ priority }) => priority === 9));
});

test("the example of privacy leaves no name, no owner, and no more of numbers, times and places than it says", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  rig.start(example("private").pipelines);
  await pump(rig);
  await until("all is followed", () => rig.isThrough());
  const left = await blocks(rig, "private");
  const bytes = Buffer.concat(left.map((block) => Buffer.from(encodeBlocks([block]))));
  for (const word of ["pump-1", "Ada", "owner", "Operator", "badge"]) assert.ok(!bytes.includes(word), word);
  for (const { columns, origins, extras, series, sequences } of left) {
    assert.match(series.deviceName, /^device-[0-9a-f]{24}$/);
    assert.ok(columns[0].every((value) => (Number(value) * 2) % 1 === 0));
    assert.ok(origins.every((at) => at % 60_000_000_000n === 0n));
    if (sequences.length > 1) assert.deepEqual(extras.get(0)?.tags, { Latitude: 29.63 });
  }
  const listed = rig.pipelines.leaves().map(({ resourceName }) => resourceName);
  assert.ok(listed.includes("Pressure") && !listed.includes("Operator"));
});

test("the example of a rule acts when the pressure comes to be over 9, and again after it was under 8", (t) => {
  const { hot } = example("hot").rules;
  let nowMs = 0;
  const acted: number[] = [];
  const act = (value: number) => acted.push(value);
  const watch = new Watch<number>({ definition: hot, monotonicMs: () => nowMs, act });
  t.after(() => watch.close());
  const see = (value: number) =>
    watch.see(
      "pump-1",
      value,
      () => ({}),
      () => value,
    );
  for (const value of [8, 9.1, 8.5, 9.2, 7.9, 9.3]) see(value);
  assert.deepEqual(acted, [9.1], "within ten seconds once");
  nowMs += 10_000;
  for (const value of [7, 9.4]) see(value);
  assert.deepEqual(acted, [9.1, 9.4]);
});

test("every function that the page names can be used, and it names every one that there is", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  rig.start({});
  const refusal = await rig.pipelines
    .set("x", { functions: [{ function: "?" }] })
    .catch((error: Error) => error.message);
  const known = [...String(refusal).matchAll(/"(\w+)"/g)].map(([, name]) => name).filter((name) => name !== "function");
  assert.ok(known.length > 25, String(refusal));
  for (const name of known) assert.ok(page.includes(`\`${name}\``), `docs/pipelines.md does not name ${name}`);
  for (const [, name] of page.matchAll(/function: (\w+)/g)) assert.ok(known.includes(name), `${name} is no function`);
  assert.equal((await rig.bus.backlog({}, call())).last, 0);
});
