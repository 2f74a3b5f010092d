/** Brings what a pipeline has gathered into the outbox, as batches. */
import { mergeBlocks } from "../../../kernel/events/blocks.ts";
import type { Block } from "../../../kernel/events/model.ts";
import { makeBatches } from "../batch.ts";
import { rangesOf } from "../ranges.ts";
import type { PipelineDefinition } from "./definition.ts";
import { destinationsOf } from "./exports.ts";
import type { Gathered } from "./gathered.ts";
import type { Parts } from "./parts.ts";
import type { Mark } from "./tables.ts";

export interface ToQueue {
  readonly pipeline: string;
  readonly definition: PipelineDefinition;
  readonly eventsMax: number;
  readonly gathered: Gathered;
  /** Where the pipeline is with what came before, and with this. */
  readonly before: Mark;
  readonly after: Mark;
}

/** Encodes and adds; all of it is on the disk when it resolves, or none ever. Errors are those of the outbox. */
export async function queueBatches(
  { clock, log, outbox, tracer, departures }: Parts,
  { pipeline, definition, eventsMax, gathered, before, after }: ToQueue,
): Promise<void> {
  const { priority, ttlMs } = definition;
  const destinations = destinationsOf(definition);
  const queuedNs = clock.wallNs();
  const encodeMs = clock.monotonicMs();
  const lost = ({ series, sequences }: Block) =>
    log.error({ device: series.deviceName, sequence: sequences[0] }, "an event fits no batch and is passed by");
  const made = makeBatches(mergeBlocks(gathered.blocks), eventsMax, lost);
  // Only with the last part is the bus followed up to `after`; they are on the disk all or none.
  const batches = made.map(({ blocks, events, readings }, i) => {
    const { position: through, emitted } = i === made.length - 1 ? after : before;
    return { blocks, events, readings, queuedNs, through, emitted };
  });
  const ranges = rangesOf(gathered.blocks);
  const bytes = made.reduce((sum, batch) => sum + batch.blocks.length, 0);
  const gatheredMs = Math.round(encodeMs - gathered.startMs);
  const told = made.length === 1 ? "1 batch" : `${made.length} batches`;
  tracer.batch("encode", encodeMs, ranges, `${told}, ${bytes} bytes, gathered in ${gatheredMs} ms`);
  const queueMs = clock.monotonicMs();
  if (batches.length > 0)
    await outbox.add({ pipeline, destinations, priority, ...(ttlMs > 0 ? { ttlMs } : {}) }, batches);
  for (const { parts } of made) departures.add(pipeline, parts);
  tracer.batch("queue", queueMs, ranges, pipeline);
}
