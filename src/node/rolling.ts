/** Replaces processes one after another, so that whoever calls them notices nothing. */
import type { Manifest } from "./manifest.ts";
import type { Unit } from "./unit.ts";

/** A service needs a second; a machine that is busy takes longer. */
const START_MS_MAX = 30_000;
/** The longest operation of a service takes 15 s. */
const DRAIN_MS_MAX = 20_000;

/** One process was replaced. */
export interface Restarted {
  /** The service; `compact` where one process has them all. */
  readonly service: string;
  readonly pid: number;
  readonly ms: number;
}

/** Replaces them in this order, and ends with the first that cannot be: NODE_RESTART_FAILED. */
export async function* restartUnits(units: readonly Unit[], manifests: readonly Manifest[]): AsyncGenerator<Restarted> {
  for (const unit of units) {
    const startMs = performance.now();
    const services = unit.status().map(({ service }) => service);
    const beside = services.every((name) => manifests.some((m) => m.name === name && !m.stateful));
    await unit.replace({ beside, startMsMax: START_MS_MAX, drainMsMax: DRAIN_MS_MAX });
    yield {
      service: services.length === 1 ? services[0] : unit.name,
      pid: unit.status()[0].pid,
      ms: Math.round(performance.now() - startMs),
    };
  }
}
