/** Gates: functions that tell of each reading at once whether it leaves. What leaves keeps its event, its id and its origin. */
import type { Block, Resource, Value } from "../../../kernel/events/model.ts";
import { keptOf } from "./rows.ts";
import type { Notes, SeriesFunction } from "./series.ts";
import { actsOn } from "./values.ts";

/** What a gate does with the readings of one resource of one device. `C` is its state: plain values, never changed in place by others. */
export interface Gate<C> {
  begin(resource: Resource): C;
  /** Tells whether a reading leaves; `originNs` is its event's. */
  passes(state: C, value: Exclude<Value, undefined>, originNs: bigint): boolean;
  save(state: C): unknown;
  load(saved: unknown, resource: Resource): C;
  /** Bytes that the state takes, about. */
  readonly bytes: number;
  readonly notes?: Notes;
}

/** Makes of a gate the function over a series: resources that are not named pass, and so do the events that have one. */
export function gateFunction<C>(resources: readonly string[], gate: Gate<C>): SeriesFunction<(C | undefined)[]> {
  const acts = actsOn(resources);
  return {
    begin: ({ resources: all }) => all.map((resource) => (acts(resource) ? gate.begin(resource) : undefined)),
    push: (states, block, out) => out.block(gated(gate, states, block)),
    bytes: (states) => states.length * (8 + gate.bytes),
    save: (states) => states.map((state) => (state === undefined ? null : gate.save(state))),
    load: (saved, { resources: all }) =>
      (saved as unknown[]).map((state, k) => (state === null ? undefined : gate.load(state, all[k]))),
    ...(gate.notes ? { notes: gate.notes } : {}),
  };
}

function gated<C>(gate: Gate<C>, states: readonly (C | undefined)[], block: Block): ReturnType<typeof keptOf> {
  const { origins, columns } = block;
  const kept = columns.map((column, k) => {
    const state = states[k];
    if (state === undefined) return undefined;
    const passed = new Uint8Array(column.length);
    for (let row = 0; row < column.length; row++) {
      const value = column[row];
      if (value !== undefined && gate.passes(state, value, origins[row])) passed[row] = 1;
    }
    return passed;
  });
  return keptOf(block, kept);
}
