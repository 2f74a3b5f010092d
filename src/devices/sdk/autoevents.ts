/** AutoEvents: readings taken by the clock, reported always or on change. */
import type { Clock } from "../../kernel/clock.ts";
import type { AutoEvent, Device } from "../../kernel/edgex.ts";
import { parseDurationMs } from "../../kernel/duration.ts";
import type { Value } from "../../kernel/events/model.ts";
import { stringifyJson } from "../../kernel/json.ts";
import type { Log } from "../../kernel/log.ts";

/** Never faster than this, whatever a device asks. */
const INTERVAL_MS_MIN = 1;
/** The longest time that a timer of the runtime takes; longer ones are waited for in parts. */
const TIMER_MS_MAX = 2 ** 31 - 1;

export interface AutoEventsOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** The devices as they are now. */
  readonly devices: ReadonlyMap<string, Device>;
  /** Reads the source and reports it; where `changed` says no, it does not. Never rejects. */
  fire(this: void, device: Device, source: string, changed: (values: readonly Value[]) => boolean): Promise<void>;
}

interface Running {
  readonly signature: string;
  timer: NodeJS.Timeout | undefined;
  stopped: boolean;
}

export class AutoEvents {
  readonly #o: AutoEventsOptions;
  readonly #running = new Map<string, Running>();
  #hasEnded = false;

  constructor(options: AutoEventsOptions) {
    this.#o = options;
  }

  /** Starts, keeps and stops timers so that they are those of the devices as they are now. */
  sync(): void {
    // What metadata still tells while the service stops starts nothing any more.
    if (this.#hasEnded) return;
    const wanted = new Set<string>();
    for (const device of this.#o.devices.values()) {
      if (device.adminState === "LOCKED" || device.operatingState === "DOWN") continue;
      (device.autoEvents ?? []).forEach((auto, i) => {
        const key = `${device.name}\u0000${i}`;
        const signature = stringifyJson(auto);
        wanted.add(key);
        const running = this.#running.get(key);
        if (running?.signature === signature) return;
        if (running) stop(running);
        this.#start(key, signature, device.name, auto);
      });
    }
    for (const [key, running] of this.#running) {
      if (wanted.has(key)) continue;
      stop(running);
      this.#running.delete(key);
    }
  }

  /** Stops all timers, for good. */
  stop(): void {
    this.#hasEnded = true;
    for (const running of this.#running.values()) stop(running);
    this.#running.clear();
  }

  /** Fires at once, then on a grid of intervals from there. */
  #start(key: string, signature: string, deviceName: string, auto: AutoEvent): void {
    const { clock, devices, fire, log } = this.#o;
    const running: Running = { signature, stopped: false, timer: undefined };
    this.#running.set(key, running);
    let intervalMs: number;
    try {
      intervalMs = Math.max(INTERVAL_MS_MIN, parseDurationMs(auto.interval));
    } catch (error) {
      log.error(
        { device: deviceName, source: auto.sourceName, err: error },
        "an AutoEvent is left out: its interval is no duration",
      );
      return;
    }
    const changed = changeOf(auto);
    let dueMs = clock.monotonicMs();
    const wait = (): void => {
      const leftMs = Math.max(0, dueMs - clock.monotonicMs());
      running.timer = setTimeout(() => (leftMs > TIMER_MS_MAX ? wait() : void turn()), Math.min(leftMs, TIMER_MS_MAX));
    };
    const turn = async (): Promise<void> => {
      const device = devices.get(deviceName);
      if (device) await fire(device, auto.sourceName, changed);
      if (running.stopped) return;
      // Turns that were missed are skipped, not caught up with: the grid stays.
      dueMs += Math.max(1, Math.ceil((clock.monotonicMs() - dueMs) / intervalMs)) * intervalMs;
      wait();
    };
    wait();
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
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b) === 0;
  if (typeof a === "object" && a !== null) return stringifyJson(a) === stringifyJson(b);
  return a === b;
}
