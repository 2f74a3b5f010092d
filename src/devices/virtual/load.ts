/** A load of events from many virtual devices, for benches and soak tests: as steady as the bus takes them, never faster than asked. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Clock } from "../../kernel/clock.ts";
import type { Series, Value } from "../../kernel/events/model.ts";
import type { EventPublisher } from "../sdk/publisher.ts";
import { stamp } from "../sdk/service.ts";
import { seeded } from "./series.ts";

export interface LoadOptions {
  readonly clock: Clock;
  readonly publisher: EventPublisher;
  readonly eventsPerSecond: number;
  readonly readingsPerEvent: number;
  readonly devices: number;
  readonly seed: number;
  readonly signal: AbortSignal;
}

const TICK_MS = 10;

/** Sends events until the signal aborts. Values walk like a sensor's: in steps of hundredths. */
export async function runLoad(options: LoadOptions): Promise<void> {
  const { clock, publisher, eventsPerSecond, readingsPerEvent, devices, seed, signal } = options;
  const random = seeded(seed);
  const resources = Array.from({ length: readingsPerEvent }, (_, k) => ({
    name: `r${k}`,
    valueType: "Float64" as const,
  }));
  const series = Array.from({ length: devices }, (_, d): Series => ({
    deviceName: `load-${d + 1}`,
    profileName: "Holdfast-Load",
    sourceName: "all",
    resources,
  }));
  const levels = series.map(() => Array.from({ length: readingsPerEvent }, () => Math.floor(random() * 5_000)));
  const startMs = clock.monotonicMs();
  let sent = 0;
  while (!signal.aborted) {
    const due = Math.floor(((clock.monotonicMs() - startMs) / 1000) * eventsPerSecond);
    while (sent < due && !publisher.full) {
      const d = sent % devices;
      const level = levels[d];
      const values: Value[] = level.map((v, k) => (level[k] = v + Math.floor(random() * 21) - 10) / 100);
      publisher.emit(series[d], stamp(clock), values);
      sent++;
    }
    // What could not be sent in time is not made up for: the rate that was reached shows what the node takes.
    if (publisher.full) await publisher.room();
    await sleep(TICK_MS, undefined, { signal }).catch(() => undefined);
  }
}
