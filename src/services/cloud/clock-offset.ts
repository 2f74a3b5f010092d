/**
 * How far the clocks of nodes are ahead of the cloud's, from the exchanges there are anyway (RFC 5905, section 8): the node says
 * when it sent, and when it heard the last answer. What the ways there and back took is not known apart, so that half of
 * both together is how wrong the offset may be; the exchange that was quickest tells it best.
 */

export interface Exchange {
  /** By the node's clock. */
  readonly sentNs: bigint;
  readonly receivedNs: bigint;
  /** The last answer: when it was given, and when the node heard it by its own clock. */
  readonly heard?: { readonly answeredNs: bigint; readonly atNs: bigint };
}

export interface ClockOffset {
  readonly aheadNs: bigint;
  readonly errorNs: bigint;
}

/** Of so many exchanges the quickest counts: a clock drifts, and an old one must not count for ever. */
const EXCHANGES_MAX = 8;
/** Nodes whose exchanges are remembered; above it the one that came first goes, and is estimated anew. */
const NODES_MAX = 10_000;

export class ClockOffsets {
  readonly #known = new Map<string, ClockOffset[]>();

  /** Learns from an exchange; answers what is known now, and whether this changed it. */
  heard(edge: string, { sentNs, receivedNs, heard }: Exchange): (ClockOffset & { isNew: boolean }) | undefined {
    const known = this.#known.get(edge) ?? [];
    const before = best(known);
    if (heard) {
      const [there, back] = [receivedNs - sentNs, heard.atNs - heard.answeredNs];
      const [aheadNs, errorNs] = [(back - there) / 2n, (back + there) / 2n];
      // Less than nothing: the clock was set between the two, and they do not belong together.
      if (errorNs >= 0n) this.#keep(edge, known, { aheadNs, errorNs });
    }
    const now = best(this.#known.get(edge) ?? []);
    return now && { ...now, isNew: now !== before };
  }

  #keep(edge: string, known: readonly ClockOffset[], found: ClockOffset): void {
    // Two that cannot both be true: the clock was set meanwhile, and what was known of it is of the past.
    const isSet = known.some((k) => distance(k.aheadNs, found.aheadNs) > k.errorNs + found.errorNs);
    this.#known.delete(edge);
    this.#known.set(edge, [...(isSet ? [] : known), found].slice(-EXCHANGES_MAX));
    if (this.#known.size > NODES_MAX) this.#known.delete(this.#known.keys().next().value!);
  }
}

const distance = (a: bigint, b: bigint): bigint => (a > b ? a - b : b - a);

function best(known: readonly ClockOffset[]): ClockOffset | undefined {
  let found: ClockOffset | undefined;
  for (const one of known) if (!found || one.errorNs < found.errorNs) found = one;
  return found;
}
