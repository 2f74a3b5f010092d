/** How well a service is: what it says itself, and how late its event loop is. Busy is a warning, never a death. */
import type { Clock } from "../kernel/clock.ts";
import type { Contract } from "../kernel/contract.ts";
import type { Durations, Metrics } from "../kernel/metrics/metrics.ts";
import type { Started } from "../kernel/service.ts";
import type { Needs } from "./needs.ts";

const STATES = ["passing", "warning", "critical", "draining"] as const;
export type HealthState = (typeof STATES)[number];

const LOOK_EVERY_MS = 1_000;
/** A timer that comes so late means that every request waited as long. */
const LATE_MS_MAX = 500;
/** After a late turn the warning stays for so long, so that it can be seen. */
const LATE_SHOWN_MS = 10_000;

export class Health {
  readonly #clock: Clock;
  #started: Started<Contract> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #late = { ms: 0, untilMs: Number.NEGATIVE_INFINITY };
  #draining = false;
  #told = "";
  /** What it needs, once it can tell whether that is there. */
  needs: Needs | undefined;
  /** Called when what `now` says has changed. */
  onChange: (state: "passing" | "warning", reason?: string) => void = () => {};

  readonly #delays: Durations;

  constructor(clock: Clock, metrics: Metrics) {
    this.#clock = clock;
    this.#delays = metrics.durations(
      "holdfast_event_loop_delay_seconds",
      "How late the event loop came to a timer of each second: so long every request waited.",
    );
    metrics.read("gauge", "holdfast_service_state", "1 for what the service says of itself, by state.", () => {
      const now = this.now().state;
      return STATES.map((state) => [{ state }, state === now ? 1 : 0]);
    });
  }

  /** The service is up: from here on it is asked. */
  began(started: Started<Contract>): void {
    this.#started = started;
    let dueMs = this.#clock.monotonicMs() + LOOK_EVERY_MS;
    this.#timer = setInterval(() => {
      const nowMs = this.#clock.monotonicMs();
      this.#delays.of().add(Math.max(0, nowMs - dueMs) / 1000);
      if (nowMs - dueMs > LATE_MS_MAX) this.#late = { ms: Math.round(nowMs - dueMs), untilMs: nowMs + LATE_SHOWN_MS };
      dueMs = nowMs + LOOK_EVERY_MS;
      const { state, reason } = this.now();
      if (`${state} ${reason}` === this.#told || state === "critical" || state === "draining") return;
      this.#told = `${state} ${reason}`;
      this.onChange(state, reason);
    }, LOOK_EVERY_MS).unref();
  }

  drain(): void {
    this.#draining = true;
    clearInterval(this.#timer);
  }

  now(): { state: HealthState; reason?: string } {
    if (!this.#started) return { state: "critical", reason: "starting" };
    if (this.#draining) return { state: "draining" };
    const own = this.#started.health?.() ?? { state: "passing" };
    if (own.state !== "passing") return own;
    if (this.#late.untilMs >= this.#clock.monotonicMs())
      return { state: "warning", reason: `its event loop was ${this.#late.ms} ms late` };
    const missing = this.needs?.missing() ?? [];
    return missing.length === 0 ? own : { state: "warning", reason: `it needs ${missing.join(", ")}: not up` };
  }
}
