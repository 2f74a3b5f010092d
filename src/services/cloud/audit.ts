/** What a cloud holds of a node, told so that loss, repetition and disorder can be seen: the judge of the fault tests. */
import type { Block } from "../../kernel/events/model.ts";
import { readingsOf } from "./count.ts";

export interface PublisherAudit {
  name: string;
  epoch: number;
  events: number;
  readings: number;
  /** Sequences that are there more than once. */
  duplicates: number;
  /** Events that came after a later one of their device and source. */
  outOfOrder: number;
  ranges: { from: number; to: number }[];
}

interface Gathered extends PublisherAudit {
  readonly sequences: number[];
  readonly last: Map<string, number>;
}

/** Gathers the audit of blocks given in order of arrival. */
export function auditOf(blocks: Iterable<Block>): PublisherAudit[] {
  const publishers = new Map<string, Gathered>();
  for (const block of blocks) {
    const { name, epoch } = block.publisher;
    const key = `${epoch} ${name}`;
    let p = publishers.get(key);
    if (!p) publishers.set(key, (p = { name, epoch, events: 0, readings: 0, duplicates: 0, outOfOrder: 0, ranges: [], sequences: [], last: new Map() }));
    p.events += block.sequences.length;
    p.readings += readingsOf(block);
    const series = `${block.series.deviceName}\u0000${block.series.sourceName}`;
    for (const sequence of block.sequences) {
      if (sequence < (p.last.get(series) ?? 0)) p.outOfOrder++;
      else p.last.set(series, sequence);
      p.sequences.push(sequence);
    }
  }
  return [...publishers.values()].map(({ sequences, last: _, ...audit }) => ({ ...audit, ...rangesOf(sequences) }));
}

function rangesOf(sequences: number[]): { ranges: { from: number; to: number }[]; duplicates: number } {
  const sorted = Float64Array.from(sequences).sort();
  const ranges: { from: number; to: number }[] = [];
  let duplicates = 0;
  for (const sequence of sorted) {
    const range = ranges.at(-1);
    if (range && sequence === range.to) duplicates++;
    else if (range && sequence === range.to + 1) range.to = sequence;
    else ranges.push({ from: sequence, to: sequence });
  }
  return { ranges, duplicates };
}
