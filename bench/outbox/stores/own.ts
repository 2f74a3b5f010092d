/** The outbox of the pipeline, in this process as in its own, with its database. */
import { mkdirSync } from "node:fs";
import path from "node:path";
import { systemClock as clock } from "../../../src/kernel/clock.ts";
import { makeLog } from "../../../src/kernel/log.ts";
import { Gaps } from "../../../src/services/pipeline/outbox/gaps.ts";
import { Outbox } from "../../../src/services/pipeline/outbox/outbox.ts";
import type { NewBatch } from "../../../src/services/pipeline/outbox/record.ts";
import { PipelineStore } from "../../../src/services/pipeline/store.ts";
import { type Store, WINDOW } from "./store.ts";

const KEY = Buffer.alloc(32, 5);
const DESTINATION = "cloud";
const SHIPMENT = { pipeline: "all", destinations: [DESTINATION], priority: 5 };
const SIZE_BYTES_MAX = 2 ** 31;
const READ = { bytesMax: 2 ** 20, recordsMax: WINDOW };

/** Opens it. */
export async function openOwn(parent: string): Promise<Store> {
  const directory = path.join(parent, "own");
  mkdirSync(directory);
  const log = makeLog("bench", { level: "error", to: 2 });
  const store = new PipelineStore({ path: path.join(directory, "pipeline.db"), key: KEY, log });
  const outbox = await Outbox.open({
    directory,
    key: KEY,
    sizeBytesMax: SIZE_BYTES_MAX,
    whenFull: "refuse",
    ageMsMax: Number.POSITIVE_INFINITY,
    destinations: [DESTINATION],
    clock,
    log,
    gaps: new Gaps(store.gaps, clock, log),
    saved: undefined,
    save: (state) => (store.outbox = state),
  });
  let position = 0;
  const batchOf = (blocks: Buffer): NewBatch => {
    position++;
    return { blocks, through: position, emitted: position, queuedNs: clock.wallNs(), events: 1, readings: 1 };
  };
  const queue = outbox.queues.normal;
  return {
    name: "the outbox",
    lanes: 4,
    pids: () => [],
    async put(records) {
      await Promise.all(records.map((record) => outbox.add(SHIPMENT, [batchOf(record)])));
    },
    putGroup: (records) => outbox.add(SHIPMENT, records.map(batchOf)),
    async drain(count) {
      const settled = queue.settled(DESTINATION);
      for (let left = count; left > 0;) {
        const { batches, next } = await queue.read(DESTINATION, settled.through(0), READ);
        if (batches.length === 0) throw new Error(`the outbox has lost ${left} records`);
        settled.add(batches[0].sequence, next);
        await outbox.trim();
        // Each time, as the peers do; the uplink does so every ten seconds, since the cloud knows better what it has.
        store.transaction(() => outbox.save());
        left -= batches.length;
      }
    },
    async end() {
      await outbox.close();
      store.close();
    },
  };
}
