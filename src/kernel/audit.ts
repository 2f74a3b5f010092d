/** The audit trail's notes: who did what, and who was denied. Collected here, shipped by the process to the trace service at once. */
import type { Clock } from "./clock.ts";

/** What a service says happened. Texts above their limits are cut. Never telemetry or secrets. */
export interface AuditNote {
  /** What was done, or was not let be done: `token.issued`, `join`, `core-metadata deviceDelete`. */
  readonly action: string;
  readonly outcome: "done" | "denied";
  /** A person, a service by its certificate, or an address. */
  readonly who: string;
  /** What it was done to: a path, a name, a serial number. */
  readonly what: string;
  readonly requestId?: string | undefined;
  /** The error's code, or why. */
  readonly note?: string | undefined;
}

export interface AuditEntry extends AuditNote {
  readonly timeNs: bigint;
  /** How often: a flood of the same denial is one entry. */
  readonly count: number;
}

/** Entries waiting in memory; above it further ones are not kept but counted, and the count goes into the trail. */
export const AUDIT_WAITING_MAX = 1024;
export const AUDIT_ACTION_LENGTH_MAX = 200;
export const AUDIT_TEXT_LENGTH_MAX = 400;

export class Auditor {
  readonly #clock: Clock;
  #waiting: AuditEntry[] = [];
  /** Where a denial waits, by what it says. */
  readonly #denials = new Map<string, number>();
  dropped = 0;
  /** Called when there is something to ship. */
  onNote: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Notes what happened; the same denial again while the first still waits is counted with it. */
  note(note: AuditNote): void {
    const key = note.outcome === "denied" ? `${note.action}\n${note.who}\n${note.what}` : undefined;
    const at = key === undefined ? undefined : this.#denials.get(key);
    const before = at === undefined ? undefined : this.#waiting[at];
    if (at !== undefined && before) this.#waiting[at] = { ...before, count: before.count + 1 };
    else if (this.#waiting.length >= AUDIT_WAITING_MAX) this.dropped++;
    else {
      if (key !== undefined) this.#denials.set(key, this.#waiting.length);
      this.#waiting.push({ ...cut(note), timeNs: this.#clock.wallNs(), count: 1 });
    }
    this.onNote?.();
  }

  /** Hands over what waits. */
  take(): AuditEntry[] {
    const entries = this.#waiting;
    this.#waiting = [];
    this.#denials.clear();
    return entries;
  }

  /** Puts back what could not be shipped, in front, within the limit. */
  giveBack(entries: readonly AuditEntry[]): void {
    const all = [...entries, ...this.#waiting];
    this.dropped += Math.max(0, all.length - AUDIT_WAITING_MAX);
    this.#waiting = all.slice(0, AUDIT_WAITING_MAX);
    this.#denials.clear();
  }
}

function cut({ action, outcome, who, what, requestId, note }: AuditNote): AuditNote {
  return {
    action: action.slice(0, AUDIT_ACTION_LENGTH_MAX),
    outcome,
    who: who.slice(0, AUDIT_TEXT_LENGTH_MAX),
    what: what.slice(0, AUDIT_TEXT_LENGTH_MAX),
    ...(requestId === undefined ? {} : { requestId }),
    ...(note === undefined ? {} : { note: note.slice(0, AUDIT_TEXT_LENGTH_MAX) }),
  };
}
