/** Who was believed, by what they came with: kept by its hash, bounded, until it ends. What they came with is not kept. */
import { hash } from "node:crypto";
import type { Subject } from "../../../kernel/call.ts";
import type { Clock } from "../../../kernel/clock.ts";

/** Verdicts kept; above it the one longest unused goes, and what it was about is verified again. */
const VERDICTS_MAX = 4_096;

export interface Verdict {
  readonly subject: Subject;
  /** The subject as services read it from the gateway's header. */
  readonly header: string;
  /** Stands for what somebody came with where it is counted. */
  readonly key: string;
  readonly fromMs: number;
  readonly untilMs: number;
  /** Sent by a browser by itself, whoever wrote the page: a cookie. */
  readonly ambient?: boolean;
}

/** Makes a verdict; it lasts for ever unless said. */
export function verdictOf(key: string, subject: Subject, times: Partial<Verdict> = {}): Verdict {
  const header = Buffer.from(JSON.stringify(subject)).toString("base64url");
  return { subject, header, key, fromMs: Number.NEGATIVE_INFINITY, untilMs: Number.POSITIVE_INFINITY, ...times };
}

/** Tells whether a verdict counts at this moment of the wall clock. */
export const counts = ({ fromMs, untilMs }: Verdict, wallMs: number): boolean => wallMs >= fromMs && wallMs < untilMs;

export const keyOf = (secret: string): string => hash("sha256", secret, "base64url");

export class Verdicts {
  readonly #clock: Clock;
  readonly #kept = new Map<string, Verdict>();
  #newest = "";
  /** Times that a verdict was looked for, and was there, since the start. */
  asked = 0;
  found = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#kept.size;
  }

  /** Tells the verdict that was kept and still counts. */
  find(key: string): Verdict | undefined {
    this.asked++;
    const verdict = this.#kept.get(key);
    if (!verdict) return undefined;
    const valid = counts(verdict, this.#clock.wallMs());
    if (valid) this.found++;
    // The one used last is the last already.
    if (valid && key === this.#newest) return verdict;
    this.#kept.delete(key);
    if (!valid) return undefined;
    this.#kept.set(key, verdict);
    this.#newest = key;
    return verdict;
  }

  keep(verdict: Verdict): Verdict {
    if (this.#kept.size >= VERDICTS_MAX) this.#kept.delete(this.#kept.keys().next().value!);
    this.#kept.set(verdict.key, verdict);
    this.#newest = verdict.key;
    return verdict;
  }

  forget(): void {
    this.#kept.clear();
  }
}
