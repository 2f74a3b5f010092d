/** AutoEvents: readings taken by the clock, reported always or on change. */
import type { Clock } from "../../kernel/clock.ts";
import type { AutoEvent, Device } from "../../kernel/edgex.ts";
import { parseDurationMs } from "../../kernel/duration.ts";
import type { Value } from "../../kernel/events/model.ts";
import type { Log } from "../../kernel/log.ts";

/** Never faster than this, whatever a device asks. */
const INTERVAL_MS_MIN = 1;

export interface AutoEventsOptions {
  readonly clock: Clock;
  readonly log: Log;
  devices(): Iterable<Device>;
  /** Reads the source and reports it; where `changed` says no, it does not. */
  fire(device: Device, source: string, changed: (values: readonly Value[]) => boolean): Promise<void>;
}

interface Running {
  readonly signature: string;
  timer: NodeJS.Timeout;
  stopped: boolean;
}

export class AutoEvents {
  readonly #o: AutoEventsOptions;
  readonly #running = new Map<string, Running>();

  constructor(options: AutoEventsOptions) {
    this.#o = options;
  }

  /** Starts, keeps and stops timers so that they are those of the devices as they are now. */
  sync(): void {
    const wanted = new Set<string>();
    for (const device of this.#o.devices()) {
      if (device.adminState === "LOCKED" || device.operatingState === "DOWN") continue;
      for (const auto of device.autoEvents ?? []) {
        const key = `${device.name}\u0000${auto.sourceName}`;
        const signature = JSON.stringify(auto);
        wanted.add(key);
        const running = this.#running.get(key);
        if (running?.signature === signature) continue;
        if (running) stop(running);
        this.#start(key, signature, device.name, auto);
      }
    }
    for (const [key, running] of this.#running) {
      if (wanted.has(key)) continue;
      stop(running);
      this.#running.delete(key);
    }
  }

  stop(): void {
    for (const running of this.#running.values()) stop(running);
    this.#running.clear();
  }

  #start(key: string, signature: string, deviceName: string, auto: AutoEvent): void {
    let intervalMs: number;
    try {
      intervalMs = Math.max(INTERVAL_MS_MIN, parseDurationMs(auto.interval));
    } catch (error) {
      this.#o.log.error({ err: error }, "an AutoEvent was left out: its interval is no duration");
      return;
    }
    const changed = changeOf(auto);
    let dueMs = this.#o.clock.monotonicMs();
    const tick = async () => {
      const device = [...this.#o.devices()].find((d) => d.name === deviceName);
      if (device) await this.#o.fire(device, auto.sourceName, changed);
      if (running.stopped) return;
      // Turns that were missed are skipped, not caught up with: the grid stays.
      const now = this.#o.clock.monotonicMs();
      dueMs = Math.max(dueMs + intervalMs, now - ((now - dueMs) % intervalMs));
      running.timer = setTimeout(() => void tick(), Math.min(Math.max(0, dueMs - now), 2 ** 31 - 1));
    };
    const running: Running = { signature, stopped: false, timer: setTimeout(() => void tick(), 0) };
    this.#running.set(key, running);
  }
}

function stop(running: Running): void {
  running.stopped = true;
  clearTimeout(running.timer);
}

/** EdgeX's onChange: report only where some value differs from the last reported (numbers: by more than the threshold). */
function changeOf(auto: AutoEvent): (values: readonly Value[]) => boolean {
  if (!auto.onChange) return () => true;
  const threshold = auto.onChangeThreshold ?? 0;
  let last: readonly Value[] | undefined;
  return (values) => {
    const same = last?.length === values.length && values.every((value, i) => alike(value, last![i], threshold));
    if (!same) last = [...values];
    return !same;
  };
}

function alike(a: Value, b: Value, threshold: number): boolean {
  if (typeof a === "number" && typeof b === "number")
    return threshold > 0 ? Math.abs(a - b) <= threshold : Object.is(a, b);
  if (typeof a === "object" && a !== null) return JSON.stringify(a) === JSON.stringify(b);
  return a === b;
}
