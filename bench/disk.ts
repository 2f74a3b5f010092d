/** Bytes that core-data takes on the disk per reading: five series, sent by a device service of ours in events of one reading. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock as clock } from "../src/kernel/clock.ts";
import { makeCall } from "../src/kernel/call.ts";
import type { Series } from "../src/kernel/events/model.ts";
import { makeLog } from "../src/kernel/log.ts";
import { Tracer } from "../src/kernel/trace.ts";
import { EventPublisher } from "../src/devices/sdk/publisher.ts";
import { seeded } from "../src/devices/virtual/series.ts";
import { makeLocalHouse } from "../src/node/local.ts";
import { bus } from "../src/services/bus/api.ts";
import { main as busMain } from "../src/services/bus/main.ts";
import { coreData } from "../src/services/core-data/api.ts";
import { main as dataMain } from "../src/services/core-data/main.ts";
import { report, rowOf } from "./table.ts";

const DATA = path.join(import.meta.dirname, "..", "..", "shared", "data");
const PUBLISHER = "device-bench";

interface Recorded {
  readonly name: string;
  readonly points: readonly { readonly origin: bigint; readonly value: number }[];
}

/** The shared series where they are, else generated ones of the same sort. */
function recorded(): Recorded[] {
  if (existsSync(DATA)) {
    const files = readdirSync(DATA).filter((name) => name.endsWith(".csv"));
    return files.map((file) => ({
      name: file.slice(0, -4),
      points: readFileSync(path.join(DATA, file), "utf8")
        .split("\n")
        .slice(1)
        .filter((line) => line.includes(","))
        .map((line) => {
          const [time = "", value = ""] = line.split(",");
          return { origin: BigInt(Date.parse(`${time.replace(" ", "T")}Z`)) * 1_000_000n, value: Number(value) };
        }),
    }));
  }
  console.log("the shared series are not here: a generated one is used");
  const random = seeded(1);
  let level = 5_000;
  const points = Array.from({ length: 50_000 }, (_, i) => {
    level += Math.floor(random() * 21) - 10;
    return { origin: BigInt(1_700_000_000_000 + i * 300_000) * 1_000_000n, value: level / 100 };
  });
  return [{ name: "generated", points }];
}

async function send(series: readonly Recorded[], publisher: EventPublisher): Promise<number> {
  let sent = 0;
  const longest = Math.max(...series.map(({ points }) => points.length));
  const kinds = series.map(({ name }): Series => ({
    deviceName: name,
    profileName: "Recorded",
    sourceName: "value",
    resources: [{ name: "value", valueType: "Float64" }],
  }));
  // In turns, as devices report: not one series after the other.
  for (let i = 0; i < longest; i++) {
    for (const [k, { points }] of series.entries()) {
      const point = points[i];
      if (!point) continue;
      await publisher.room();
      publisher.emit(kinds[k], point.origin, [point.value]);
      sent++;
    }
  }
  return sent;
}

const directory = mkdtempSync(path.join(tmpdir(), "holdfast-disk-"));
const house = makeLocalHouse({
  node: "bench",
  directory,
  version: "bench",
  log: makeLog("bench", { level: "error" }),
  dataKey: async () => Buffer.alloc(32, 5),
});
await house.start(busMain);
await house.start(dataMain, { keepHours: 876_000 });
const ending = new AbortController();
const publisher = new EventPublisher({
  publisher: { name: PUBLISHER, epoch: 1 },
  bus: house.connect(bus, PUBLISHER),
  clock,
  log: makeLog(PUBLISHER, { level: "error" }),
  tracer: new Tracer(PUBLISHER, clock),
  signal: ending.signal,
});
const call = () => makeCall({ caller: "gateway", timeoutMs: 30_000 });
const data = house.connect(coreData, "gateway");
const sent = await send(recorded(), publisher);
while ((await data.readingCount({}, call())).Count < sent) await sleep(20);
const { readings } = await data.allReadings({ offset: Math.floor(sent / 2), limit: 20, numeric: false }, call());
const startMs = performance.now();
for (const { id } of readings) await data.eventById({ id: id! }, call());
const byIdMs = (performance.now() - startMs) / readings.length;
ending.abort();
await house.stop();
const files = readdirSync(path.join(directory, "core-data")).map(
  (name) => statSync(path.join(directory, "core-data", name)).size,
);
const bytes = files.reduce((a, b) => a + b, 0);
console.log(
  `${sent} readings in events of one, ${bytes} bytes in core-data's files; ${readings.length} found again by id`,
);
report("disk", [
  rowOf("bytes on the disk per reading, single-reading events, files whole", bytes / sent, "bytes", 8),
  rowOf("an event by the id of one of its readings", byIdMs, "ms", 50),
]);
rmSync(directory, { recursive: true, force: true });
process.exit(0);
