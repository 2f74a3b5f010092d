/**
 * Lets in as many requests as a turn of the event loop has time for; the rest wait. While all get in soon it goes in order.
 * In a crowd who came last is let in first: so some are answered in good time, instead of all of them too late; and who has
 * waited for a second is refused. To be refused late is what keeps a crowd from coming back at once: a refusal costs half an answer.
 */
import type { Clock } from "../../../kernel/clock.ts";
import { fail, type Failure } from "../../../kernel/error.ts";
import { GATEWAY_BUSY } from "../api.ts";

export interface Guest {
  /** An answer may still be given. */
  readonly open: boolean;
  run(): void;
  refuse(failure: Failure): void;
}

/** Of a turn of the event loop, for new requests and all that is done between them: what is under way goes on soon. */
const TURN_MS = 2;
/** Where the first has waited for so long there is a crowd. */
const CROWD_MS = 50;
const WAIT_MS_MAX = 1_000;
/** Refused in one turn. */
const REFUSED_MAX = 16;
/** Where as many are under way as may be, it is looked so often whether one has ended. */
const LOOK_MS = 10;

export interface AdmissionOptions {
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly load: { readonly running: number };
  /** Under way at once; as many more wait. */
  readonly runningMax: number;
}

export class Admission {
  readonly #o: AdmissionOptions;
  readonly #waiting: { readonly guest: Guest; readonly sinceMs: number }[] = [];
  /** When this turn took its first request. */
  #turnMs: number | undefined;
  #ends = false;
  #refused = 0;

  constructor(options: AdmissionOptions) {
    this.#o = options;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Refused so far. */
  get refused(): number {
    return this.#refused;
  }

  /** Takes a request: now, in a while, or not at all. */
  enter(guest: Guest): void {
    const nowMs = this.#o.clock.monotonicMs();
    this.#turnMs ??= nowMs;
    const first = this.#waiting.length === 0 || this.#isCrowd(nowMs);
    if (first && this.#hasRoom(nowMs)) guest.run();
    else if (this.#waiting.length < this.#o.runningMax) this.#waiting.push({ guest, sinceMs: nowMs });
    else this.#refuse(guest);
    if (this.#ends) return;
    this.#ends = true;
    setImmediate(this.#endTurn);
  }

  #isCrowd(nowMs: number): boolean {
    return nowMs - this.#waiting[0].sinceMs > CROWD_MS;
  }

  #hasRoom(nowMs: number): boolean {
    return nowMs - this.#turnMs! < TURN_MS && this.#o.load.running < this.#o.runningMax;
  }

  /** What of the turn is left is for those who wait. */
  readonly #endTurn = (): void => {
    const { clock, load, runningMax } = this.#o;
    let nowMs = clock.monotonicMs();
    this.#turnMs ??= nowMs;
    for (let n = 0; n < REFUSED_MAX && nowMs - (this.#waiting[0]?.sinceMs ?? nowMs) > WAIT_MS_MAX; n++)
      this.#refuse(this.#waiting.shift()!.guest);
    for (; this.#waiting.length > 0 && this.#hasRoom(nowMs); nowMs = clock.monotonicMs()) {
      const { guest } = this.#isCrowd(nowMs) ? this.#waiting.pop()! : this.#waiting.shift()!;
      if (guest.open) guest.run();
    }
    this.#turnMs = undefined;
    this.#ends = this.#waiting.length > 0;
    if (!this.#ends) return;
    if (load.running < runningMax) setImmediate(this.#endTurn);
    else setTimeout(this.#endTurn, LOOK_MS);
  };

  #refuse(guest: Guest): void {
    if (!guest.open) return;
    this.#refused++;
    guest.refuse(fail(GATEWAY_BUSY, "more requests come than the gateway can answer", { retryAfterS: 1 }));
  }
}
