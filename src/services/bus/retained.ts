/** The last message of each topic that was published to be kept for those who come later. */
import { topicMatches } from "../../kernel/edgex.ts";
import type { Stored } from "./sessions.ts";

/** Retained messages and their bytes; a further topic is refused its place. */
const RETAINED_MAX = 1000;
const RETAINED_BYTES_MAX = 4 * 1024 * 1024;

export class Retained {
  readonly #messages = new Map<string, Stored>();
  #bytes = 0;

  /** Keeps a message in the place of the one before it; false where there is no room. */
  store(packet: Stored): boolean {
    const before = this.#messages.get(packet.topic)?.payload.length ?? 0;
    const bytes = this.#bytes - before + packet.payload.length;
    const isNew = !this.#messages.has(packet.topic);
    if (packet.payload.length === 0) this.#messages.delete(packet.topic); // [MQTT-3.3.1-10]
    else if (bytes > RETAINED_BYTES_MAX || (isNew && this.#messages.size >= RETAINED_MAX)) return false;
    else this.#messages.set(packet.topic, { ...packet, payload: Buffer.from(packet.payload) });
    this.#bytes = bytes;
    return true;
  }

  matching(filters: readonly string[]): Stored[] {
    return [...this.#messages.values()].filter((packet) =>
      filters.some((filter) => topicMatches(filter, packet.topic)),
    );
  }
}
