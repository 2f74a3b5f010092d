/**
 * What of the originals may leave for a destination: what a pipeline to it lets pass and hides, without what it reduces. A
 * backfill tells no more than the pipelines do, only all of it.
 */
import { eventTopic } from "../../../kernel/event-topic.ts";
import { TOPIC, topicMatches } from "../../../kernel/edgex.ts";
import type { Block } from "../../../kernel/events/model.ts";
import { withoutKnown } from "../../../kernel/events/rows.ts";
import { Chain, isReducing } from "../pipelines/chain.ts";
import { withColumns } from "../pipelines/columns.ts";
import type { PipelineDefinition } from "../pipelines/definition.ts";

export interface Wanted {
  /** As the destination knows them; all where none is named. */
  readonly devices: readonly string[];
  readonly resources: readonly string[];
}

/** What a pipeline lets leave of blocks. */
export interface Passed {
  readonly pipeline: string;
  readonly blocks: readonly Block[];
}

/** Takes blocks through the pipelines, each reading at most once. */
export function passOriginals(
  blocks: readonly Block[],
  pipelines: readonly (readonly [name: string, definition: PipelineDefinition])[],
  wanted: Wanted,
  pseudonymKey: Uint8Array,
): Passed[] {
  const passed: Passed[] = [];
  for (const [pipeline, { functions, topics }] of pipelines) {
    const chain = new Chain(
      functions.filter((spec) => !isReducing(spec)),
      { pipeline, pseudonymKey },
    );
    const before = passed.flatMap((one) => one.blocks);
    const left = chain
      .push(blocks.filter((block) => isOnTopic(block, topics)))
      .flatMap((block) => only(block, wanted) ?? [])
      .map((block) => withoutKnown(block, before))
      .filter(({ sequences }) => sequences.length > 0);
    if (left.length > 0) passed.push({ pipeline, blocks: left });
  }
  return passed;
}

/** Which devices can be asked for by name: none where a pipeline gives them other names. */
export const isPseudonymous = ({ functions }: PipelineDefinition): boolean =>
  functions.some((spec) => spec.function === "Pseudonym" && spec.device);

/** Who posted an event is not kept with it: it may have come on the topic of either. */
const isOnTopic = ({ publisher, series }: Block, topics: readonly string[]): boolean =>
  topics.length === 0 ||
  [TOPIC.deviceEvents, TOPIC.coreEvents].some((base) => {
    const topic = eventTopic(publisher.name, series, base);
    return topics.some((filter) => topicMatches(filter, topic));
  });

function only(block: Block, { devices, resources }: Wanted): Block | undefined {
  if (devices.length > 0 && !devices.includes(block.series.deviceName)) return undefined;
  if (resources.length === 0) return block;
  return withColumns(
    block,
    block.series.resources.map(({ name }) => resources.includes(name)),
  );
}
