/** Events that are on the disk, as EdgeX envelopes to whoever listens now; written only where somebody does. */
import { type BlockHead, decodeBlocks } from "../../kernel/events/codec.ts";
import { rowsInOrder } from "../../kernel/events/blocks.ts";
import { rowToEvent } from "../../kernel/events/edgex.ts";
import { publisherTag } from "../../kernel/events/ids.ts";
import type { Block } from "../../kernel/events/model.ts";
import { writeEvent } from "./envelope.ts";
import type { Hub } from "./hub.ts";
import { packetOf } from "./hub.ts";
import { eventTopic } from "../../kernel/event-topic.ts";

/** Publishers whose tags are kept; then all are forgotten (a tag costs a hash). */
const TAGS_MAX = 1024;

export class Live {
  readonly #hub: Hub;
  readonly #node: string;
  readonly #tags = new Map<string, number>();

  constructor(hub: Hub, node: string) {
    this.#hub = hub;
    this.#node = node;
  }

  /** Sends encoded events; `heads` are theirs. Rows go out in the order in which they were made. */
  sendEncoded(
    bytes: Uint8Array,
    heads: readonly BlockHead[],
    requestId: string | undefined,
    position: number,
    base?: string,
  ): void {
    if (!heads.some((head) => this.#hub.concerns(eventTopic(head.publisher.name, head.series, base)))) return;
    this.send(decodeBlocks(bytes), requestId, position, base);
  }

  send(blocks: readonly Block[], requestId: string | undefined, position: number, base?: string): void {
    const wanted = new Map<Block, string>();
    for (const block of blocks) {
      const topic = eventTopic(block.publisher.name, block.series, base);
      if (this.#hub.concerns(topic)) wanted.set(block, topic);
    }
    for (const { block, row } of rowsInOrder([...wanted.keys()])) {
      const event = rowToEvent(block, row, this.#tagOf(block.publisher.name));
      const text = writeEvent(event, block.extras.get(row)?.requestId ?? requestId);
      this.#hub.emit(packetOf(wanted.get(block) ?? "", Buffer.from(text), position));
    }
  }

  #tagOf(publisher: string): number {
    let tag = this.#tags.get(publisher);
    if (tag === undefined) {
      if (this.#tags.size >= TAGS_MAX) this.#tags.clear();
      this.#tags.set(publisher, (tag = publisherTag(this.#node, publisher)));
    }
    return tag;
  }
}
