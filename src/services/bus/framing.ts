/**
 * Walks through MQTT's fixed headers ([MQTT] 2.2) and nothing else: how large each packet is, before anybody collects
 * it.
 */
import { APPEND_BYTES_MAX } from "./api.ts";

/** A packet's remaining length: the largest message, and its topic. */
export const PACKET_BYTES_MAX = APPEND_BYTES_MAX + 4096;
/** 2.2.3: at most four bytes. */
const LENGTH_BYTES_MAX = 4;

export class Framing {
  /** Bytes of the packet's body still to come. */
  #left = 0;
  /** Bytes of its length seen; -1: its first byte is next. */
  #lengthBytes = -1;
  #length = 0;

  /** Takes the next bytes of a connection; false where a packet is too large or its length is none. */
  accepts(chunk: Uint8Array): boolean {
    let at = 0;
    while (at < chunk.length) {
      if (this.#left > 0) {
        const skipped = Math.min(this.#left, chunk.length - at);
        this.#left -= skipped;
        at += skipped;
        continue;
      }
      const byte = chunk[at++];
      if (this.#lengthBytes < 0) {
        this.#lengthBytes = 0;
        this.#length = 0;
        continue;
      }
      this.#length += (byte & 0x7f) * 128 ** this.#lengthBytes++;
      if (this.#length > PACKET_BYTES_MAX || (byte & 0x80 && this.#lengthBytes >= LENGTH_BYTES_MAX)) return false;
      if (byte & 0x80) continue;
      this.#left = this.#length;
      this.#lengthBytes = -1;
    }
    return true;
  }
}
