/** What a cloud holds of a node, told so that loss, repetition and disorder can be seen: the judge of the fault tests. */
import type { Block } from "../../kernel/events/model.ts";
import { type SequenceRange, SequenceSet } from "../../kernel/sequences.ts";
import { RANGES_MAX } from "./api.ts";
import { readingsOf } from "../../kernel/events/rows.ts";

export interface PublisherAudit {
  pipeline: string;
  name: string;
  epoch: number;
  events: number;
  readings: number;
  /** Events whose sequence was there before. */
  duplicates: number;
  /** Events that are behind a later one of their device and source. */
  outOfOrder: number;
  ranges: SequenceRange[];
  rangesLeftOut?: number;
}

interface Gathered {
  readonly pipeline: string;
  readonly name: string;
  readonly epoch: number;
  events: number;
  readings: number;
  duplicates: number;
  outOfOrder: number;
  readonly sequences: SequenceSet;
}

/** The last event of a device and source so far. */
interface Last {
  epoch: number;
  sequence: number;
}

/** Gathers the audit, batch by batch in order of their sequences; what it holds grows with gaps and devices, not with events. */
export class Audit {
  readonly #publishers = new Map<string, Gathered>();
  readonly #last = new Map<string, Last>();

  add(pipeline: string, batch: readonly Block[]): void {
    const sequences = new Map<Gathered, number[]>();
    for (const block of batch) {
      const publisher = this.#publisherOf(pipeline, block);
      publisher.events += block.sequences.length;
      publisher.readings += readingsOf(block);
      this.#order(publisher, block);
      const known = sequences.get(publisher);
      if (known) for (const sequence of block.sequences) known.push(sequence);
      else sequences.set(publisher, [...block.sequences]);
    }
    // Of all blocks together: those of a batch fill each other's gaps.
    for (const [publisher, numbers] of sequences) addAll(publisher, Float64Array.from(numbers).sort());
  }

  result(): PublisherAudit[] {
    return [...this.#publishers.values()].map(({ sequences, ...counts }) => ({
      ...counts,
      ranges: sequences.ranges(RANGES_MAX),
      ...(sequences.size > RANGES_MAX ? { rangesLeftOut: sequences.size - RANGES_MAX } : {}),
    }));
  }

  #publisherOf(pipeline: string, { publisher: { name, epoch } }: Block): Gathered {
    const key = `${epoch} ${pipeline} ${name}`;
    let found = this.#publishers.get(key);
    if (!found) {
      found = {
        pipeline,
        name,
        epoch,
        events: 0,
        readings: 0,
        duplicates: 0,
        outOfOrder: 0,
        sequences: new SequenceSet(),
      };
      this.#publishers.set(key, found);
    }
    return found;
  }

  #order(publisher: Gathered, { series: { deviceName, sourceName }, sequences }: Block): void {
    const { pipeline, name, epoch } = publisher;
    const key = JSON.stringify([pipeline, name, deviceName, sourceName]);
    let last = this.#last.get(key);
    if (!last) this.#last.set(key, (last = { epoch: 0, sequence: 0 }));
    for (const sequence of sequences) {
      if (epoch < last.epoch || (epoch === last.epoch && sequence < last.sequence)) publisher.outOfOrder++;
      else {
        last.epoch = epoch;
        last.sequence = sequence;
      }
    }
  }
}

function addAll(publisher: Gathered, sorted: Float64Array): void {
  const { sequences } = publisher;
  for (let i = 0; i < sorted.length;) {
    const from = sorted[i];
    let to = from;
    for (i++; i < sorted.length && sorted[i] <= to + 1; i++) {
      if (sorted[i] === to) publisher.duplicates++;
      else to = sorted[i];
    }
    publisher.duplicates += sequences.add(from, to);
  }
}
