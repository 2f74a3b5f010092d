/** Watches the readings of one resource for one rule: tells when the condition has come to hold for a device. */
import type { Value } from "../../../kernel/events/model.ts";
import { makeLogic } from "../pipelines/logic.ts";
import type { RuleDefinition, When } from "./definition.ts";

/** Devices that a rule knows the state of; the one that it learned of first is forgotten first. */
const DEVICES_MAX = 4_096;

interface Seen<T> {
  isActive: boolean;
  /** The last reading for which the condition held. */
  last: () => T;
  timer: NodeJS.Timeout | undefined;
  /** On the monotonic clock. */
  actedMs: number;
}

export interface WatchOptions<T> {
  readonly definition: RuleDefinition;
  readonly monotonicMs: () => number;
  /** The condition has come to hold: with what it holds for. */
  readonly act: (last: T) => void;
}

export class Watch<T> {
  readonly #o: WatchOptions<T>;
  readonly #holds: (value: Value, isActive: boolean, event: () => unknown) => boolean;
  readonly #devices = new Map<string, Seen<T>>();

  /** PIPELINE_LOGIC_INVALID. */
  constructor(options: WatchOptions<T>) {
    this.#o = options;
    this.#holds = conditionOf(options.definition.when);
  }

  /** Devices for which the condition holds. */
  get active(): number {
    return [...this.#devices.values()].filter(({ isActive }) => isActive).length;
  }

  /** Takes a reading: acts at once where the condition comes to hold with it, or after `forMs` where it holds on until then. */
  see(device: string, value: Value, event: () => unknown, context: () => T): void {
    const { definition } = this.#o;
    const seen = this.#devices.get(device);
    if (!this.#holds(value, seen?.isActive ?? false, event)) {
      if (!seen) return;
      seen.isActive = false;
      clearTimeout(seen.timer);
      return;
    }
    if (seen?.isActive) return void (seen.last = context);
    const actedMs = seen?.actedMs ?? Number.NEGATIVE_INFINITY;
    const now: Seen<T> = { isActive: true, last: context, timer: undefined, actedMs };
    this.#remember(device, now);
    if (definition.forMs === 0) this.#act(now);
    else now.timer = setTimeout(() => this.#act(now), definition.forMs).unref();
  }

  #act(seen: Seen<T>): void {
    const { act, definition, monotonicMs } = this.#o;
    const nowMs = monotonicMs();
    if (nowMs - seen.actedMs < definition.holdOffMs) return;
    seen.actedMs = nowMs;
    act(seen.last());
  }

  #remember(device: string, seen: Seen<T>): void {
    this.#devices.set(device, seen);
    if (this.#devices.size <= DEVICES_MAX) return;
    const [oldest, { timer }] = this.#devices.entries().next().value as [string, Seen<T>];
    clearTimeout(timer);
    this.#devices.delete(oldest);
  }

  close(): void {
    for (const { timer } of this.#devices.values()) clearTimeout(timer);
    this.#devices.clear();
  }
}

/** Makes the test of a condition; `isActive`: it holds already. */
function conditionOf(when: When): (value: Value, isActive: boolean, event: () => unknown) => boolean {
  if ("logic" in when) {
    const holds = makeLogic(when.logic);
    return (_value, _isActive, event) => holds(event());
  }
  if ("equals" in when) {
    const { equals } = when;
    return (value) => (typeof equals === "number" ? numberOf(value) === equals : value === equals);
  }
  const { hysteresis = 0 } = when;
  if ("above" in when) return (value, isActive) => numberOf(value) > (isActive ? when.above - hysteresis : when.above);
  return (value, isActive) => numberOf(value) < (isActive ? when.below + hysteresis : when.below);
}

/** What is no number is NaN: no threshold holds for it. */
const numberOf = (value: Value): number =>
  typeof value === "number"
    ? value
    : typeof value === "bigint" || (typeof value === "string" && value.trim() !== "")
      ? Number(value)
      : Number.NaN;
