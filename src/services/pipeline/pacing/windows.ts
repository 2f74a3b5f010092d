/** When something may go: windows that open by cron and stay open for a while. */
import { Cron } from "croner";
import type { Clock } from "../../../kernel/clock.ts";
import { zoneOf } from "./calendar.ts";
import type { WindowConfig } from "./config.ts";

/** A window that opens in the middle of another prolongs it; so many are looked through to find the end. */
const CHAIN_MAX = 1_000;

interface Window {
  readonly cron: Cron;
  readonly durationMs: number;
}

export class Windows {
  readonly #clock: Clock;
  readonly #windows: readonly Window[];

  /** Error where a pattern or the zone is none. */
  constructor(options: { clock: Clock; windows: readonly WindowConfig[]; zone: string }) {
    const timezone = zoneOf(options.zone);
    this.#clock = options.clock;
    this.#windows = options.windows.map(({ cron, durationMs }) => ({
      cron: new Cron(cron, { paused: true, mode: "5-part", ...(timezone === undefined ? {} : { timezone }) }),
      durationMs,
    }));
    // croner finds out about the zone when it is asked only.
    for (const { cron } of this.#windows) cron.nextRun();
  }

  /** Milliseconds until a window opens; 0 where one is open or there are none, infinity where none ever opens. */
  waitMs(): number {
    const nowMs = this.#clock.wallMs();
    if (this.#windows.length === 0 || this.#closesAtMs(nowMs) > nowMs) return 0;
    const opens = this.#windows.map(({ cron }) => cron.nextRun(new Date(nowMs))?.getTime() ?? Number.POSITIVE_INFINITY);
    return Math.max(1, Math.min(...opens) - nowMs);
  }

  /** Milliseconds that the windows stay open; infinity where there are none, 0 where none is open. */
  openMs(): number {
    const nowMs = this.#clock.wallMs();
    if (this.#windows.length === 0) return Number.POSITIVE_INFINITY;
    return Math.max(0, this.#closesAtMs(nowMs) - nowMs);
  }

  /** Finds when the window of a moment closes, those that take over from it included; the moment itself where none is open. */
  #closesAtMs(fromMs: number): number {
    let atMs = fromMs;
    for (let chain = 0; chain < CHAIN_MAX; chain++) {
      const closes = this.#windows.map((window) => closesOf(window, atMs));
      const latestMs = Math.max(...closes);
      if (latestMs <= atMs) break;
      atMs = latestMs;
    }
    return atMs;
  }
}

/** The end of the last window of a kind that has opened at or before a moment; runs are told that lie before what is asked for. */
function closesOf({ cron, durationMs }: Window, atMs: number): number {
  const [opened] = cron.previousRuns(1, new Date(atMs + 1));
  return opened ? opened.getTime() + durationMs : 0;
}
