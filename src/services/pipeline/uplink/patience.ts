/**
 * How long a request may take: what its bytes take on the link as it was of late, several times over, and a while for the far side.
 * A limit for the slowest link would leave a dead connection alone for hours; one for a fast link would let nothing through a slow one.
 */

/** Besides what its bytes take: an answer later than this is none. */
const SILENCE_MS = 30_000;
/** A link may be so many times slower than it was, and a request still gets through. */
const SLOWER_MAX = 4;
/** What is believed of a link that nothing is known of, and of the slowest. */
const BYTES_PER_S_FIRST = 8_192;
const BYTES_PER_S_MIN = 64;
/** After a request in vain the link is taken to be slower by so much. */
const IN_VAIN = 8;
/** Smaller requests tell how far away the far side is, not how fast the link. */
const BYTES_MIN = 4_096;
/** A new connection and its certificates, besides what a request carries. */
const HANDSHAKE_BYTES = 6_144;

export class Patience {
  #bytesPerS = BYTES_PER_S_FIRST;

  /** Milliseconds that a request of so many bytes may take, a new connection included. */
  limitMs(bytes: number): number {
    return SILENCE_MS + (SLOWER_MAX * 1000 * (bytes + HANDSHAKE_BYTES)) / this.#bytesPerS;
  }

  /** A request of so many bytes was answered. */
  answered(bytes: number, tookMs: number): void {
    if (bytes >= BYTES_MIN) this.#set((bytes * 1000) / Math.max(1, tookMs));
  }

  /** A request was given up. */
  inVain(): void {
    this.#set(this.#bytesPerS / IN_VAIN);
  }

  #set(bytesPerS: number): void {
    this.#bytesPerS = Math.max(BYTES_PER_S_MIN, bytesPerS);
  }
}
