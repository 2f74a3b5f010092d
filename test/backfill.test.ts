/** Backfill: the cloud has a reduction, asks for the range in full, everything is killed meanwhile, and it gets each reading once. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Ask, gatewayDoor } from "./houses/ask.ts";
import { Whole } from "./houses/whole.ts";

const house = new Whole({
  config: `device-virtual: { loadEventsPerSecond: 100, loadReadingsPerEvent: 40, loadDevices: 2 }
pipeline:
  destinations: { cloud: { kind: cloud, askEveryMs: 1000 } }
  pipelines: { reduced: { functions: [{ function: Sample, resources: ["*"], every: 50 }] } }
`,
});
let ask: Ask;
let edge: string;
before(async () => {
  await house.start();
  ask = await gatewayDoor(house);
  edge = (await house.json<{ edges: { edge: string }[] }>("cloud", "edges")).edges[0].edge;
});
after(() => house.remove());

interface Backfill {
  readonly id: string;
  readonly state: string;
  readonly kept: number;
  readonly known: number;
}
interface Read {
  readonly id: string;
  readonly value: string;
}

const DEVICE = "load-1";
/** Of two devices: more than fits one page of what the node sends, so that it is killed between pages, too. */
const EVENTS_MIN = 850;
const PAGE = 1_024;

const valuesById = (readings: readonly Read[]): Map<string, string> =>
  new Map(readings.map(({ id, value }) => [id, value]));

/** Readings of a resource up to a time that the node keeps. */
async function here(resource: string, toNs: bigint): Promise<Map<string, string>> {
  const path = `/core-data/api/v3/reading/device/name/${DEVICE}/resourceName/${resource}/start/0/end/${toNs}?limit=${PAGE}&offset=`;
  const found: Read[] = [];
  for (let offset = 0; ; offset += PAGE) {
    const { body } = await ask("GET", `${path}${offset}`);
    found.push(...(body["readings"] as Read[]));
    if (offset + PAGE >= (body["totalCount"] as number)) return valuesById(found);
  }
}

/** Kills a service, and waits until all are back. */
async function kill(name: string): Promise<void> {
  const pid = (await house.pids()).get(name);
  assert.ok(pid, `${name} runs`);
  process.kill(pid, "SIGKILL");
  // The command's status says whether all are well.
  await house.until(async () => (await house.pids().catch(() => new Map())).has(name), `${name} to be back`);
}

test("kill -9 of pipeline, core-data and cloud while it goes on: every reading of the range, each once", async () => {
  await house.until(async () => {
    const { body } = await ask("GET", `/core-data/api/v3/event/count/device/name/${DEVICE}`);
    return (body["Count"] as number) > EVENTS_MIN;
  }, "enough readings to ask for");
  const endMs = Date.now();
  const range = ["--from", "1h", "--to", new Date(endMs).toISOString()];
  const { id } = await house.json<{ id: string }>("cloud", "backfill", edge, ...range);
  const look = async (): Promise<Partial<Backfill>> => {
    const { backfills } = await house.json<{ backfills: Backfill[] }>("cloud", "backfills", edge);
    return backfills.find((one) => one.id === id) ?? {};
  };
  await house.until(async () => (await look()).state !== "asked", "the node to have heard of it");
  for (const victim of ["pipeline", "cloud", "core-data"]) await kill(victim);
  await house.until(async () => (await look().catch(() => undefined))?.state === "done", "the backfill to be done");
  const { kept = 0, known = 0 } = await look();
  assert.ok(known > 0 && kept > known, `${kept} were new, ${known} known`);
  for (const resource of ["r0", "r21", "r39"]) {
    const wanted = await here(resource, BigInt(endMs) * 1_000_000n);
    assert.ok(wanted.size > EVENTS_MIN, `${wanted.size} readings`);
    const all = ["cloud", "readings", edge, DEVICE, "--resource", resource, "--limit", "100000"];
    const { readings } = await house.json<{ readings: Read[] }>(...all);
    const there = valuesById(readings);
    assert.equal(there.size, readings.length, "each is there once");
    for (const [one, value] of there) if (wanted.get(one) === value) wanted.delete(one);
    assert.equal(wanted.size, 0, "and each of the range is there, to the value");
  }
  assert.match(await house.text("retention", DEVICE), /core-data\.keepHours/);
});
