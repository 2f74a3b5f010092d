/** Offline: the cloud is away and comes back, processes are killed at random: every acknowledged reading arrives once, in order. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { seeded } from "../src/devices/virtual/series.ts";
import { Whole } from "./houses/whole.ts";

/** How often something is killed: a sample at home, more in CI and in the soak. */
const ROUNDS = Number(process.env["HOLDFAST_FAULT_ROUNDS"] ?? 5);
const SEED = Number(process.env["HOLDFAST_SEED"] ?? 1);

const house = new Whole({
  config:
    "device-host: { deviceName: box, interval: 200ms }\ndevice-virtual: { loadEventsPerSecond: 200, loadReadingsPerEvent: 5 }\n",
});
before(() => house.start());
after(() => house.remove());

interface Audit {
  readonly publishers: {
    readonly name: string;
    readonly epoch: number;
    readonly events: number;
    readonly duplicates: number;
    readonly outOfOrder: number;
    readonly ranges: readonly { readonly from: number; readonly to: number }[];
  }[];
}
interface Backlog {
  readonly bus: { readonly last: number; readonly publishers: { name: string; epoch: number; last: number }[] } | null;
  readonly pipeline: { readonly position: number; readonly destinations: { waiting: { batches: number } }[] } | null;
}

const edgeOf = async () => (await house.json<{ edges: { edge: string }[] }>("cloud", "edges")).edges[0].edge;

/** Waits until the cloud has all that the bus acknowledged up to now, then holds each publisher to it. */
async function holdToAccount(): Promise<void> {
  const edge = await edgeOf();
  const { bus } = await house.json<Backlog>("backlog");
  const acknowledged = bus!.publishers.filter((p) => p.last > 0);
  assert.ok(acknowledged.length >= 2, "two publishers have sent");
  let audit: Audit = { publishers: [] };
  await house.until(async () => {
    audit = await house.json<Audit>("cloud", "audit", edge).catch(() => audit);
    return acknowledged.every(({ name, epoch, last }) =>
      audit.publishers.some((p) => p.name === name && p.epoch === epoch && (p.ranges.at(-1)?.to ?? 0) >= last),
    );
  }, "the cloud to have all that was acknowledged");
  for (const { name, epoch, duplicates, outOfOrder, ranges } of audit.publishers) {
    assert.equal(duplicates, 0, `${name} ${epoch}: nothing twice`);
    assert.equal(outOfOrder, 0, `${name} ${epoch}: in order per device`);
    assert.equal(ranges.length, 1, `${name} ${epoch}: nothing lost, ${JSON.stringify(ranges)}`);
    assert.equal(ranges[0].from, 1);
  }
}

test("what is measured while the cloud is away arrives when it is back, once and in order", async () => {
  const cloud = (await house.pids()).get("cloud")!;
  process.kill(cloud, "SIGSTOP");
  await sleep(3_000);
  process.kill(cloud, "SIGCONT");
  await holdToAccount();
});

test(
  `kill -9 of any process at ${ROUNDS} random moments loses nothing and repeats nothing`,
  { timeout: 180_000 + ROUNDS * 30_000 },
  async () => {
    const random = seeded(SEED);
    const kinds = [
      "bus",
      "core-data",
      "pipeline",
      "cloud",
      "device-virtual",
      "device-host",
      "core-metadata",
      "core-keeper",
      "identity",
      "supervisor",
    ];
    for (let round = 0; round < ROUNDS; round++) {
      await sleep(random() * 1_500);
      const kind = kinds[Math.floor(random() * kinds.length)];
      if (kind === "supervisor") {
        await house.killSupervisor();
        await house.start();
        continue;
      }
      const pid = (await house.pids().catch(() => new Map<string, number>())).get(kind);
      if (pid) process.kill(pid, "SIGKILL");
    }
    await house.until(async () => {
      const { services } = await house
        .json<{ services: { state: string }[] }>("status")
        .catch(() => ({ services: [{ state: "away" }] }));
      return services.every((s) => s.state === "passing" || s.state === "warning");
    }, "every service to be back");
    await holdToAccount();
  },
);

test("a stop and a start carry on where it was", async () => {
  await house.stop();
  await house.start();
  await holdToAccount();
});
