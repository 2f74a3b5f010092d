/**
 * Who may join: the supervisor announces each instance with the hash of its secret, and each secret is good once, for
 * a minute.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { Clock } from "../../kernel/clock.ts";
import { fail } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import { IDENTITY_JOIN_REFUSED } from "./api.ts";

/** On the monotonic clock; a service joins within a second of its start. */
export const ADMISSION_MS = 60_000;
/**
 * Announced instances that have not joined; above it the oldest is forgotten, and its service will have to be
 * restarted.
 */
export const ADMISSIONS_MAX = 256;
/** So many wrong secrets for one announced instance, and no secret opens it any more: somebody is guessing. */
export const WRONG_TRIES_MAX = 10;

export interface Announced {
  readonly service: string;
  readonly instance: string;
  /** SHA-256 of the secret's text, 64 hex digits. */
  readonly secretSha256: string;
  /** Whom it may call; everybody where it is absent. */
  readonly needs?: readonly string[] | undefined;
}

interface Admission {
  readonly service: string;
  readonly needs: readonly string[] | undefined;
  readonly secretHash: Buffer;
  readonly untilMs: number;
  wrongTries: number;
}

const NOBODY = Buffer.alloc(32);

export class Admissions {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #admissionMs: number;
  readonly #byInstance = new Map<string, Admission>();
  #refused = 0;

  constructor(options: { clock: Clock; log: Log; admissionMs?: number }) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#admissionMs = options.admissionMs ?? ADMISSION_MS;
  }

  /** Expects an instance; an announcement of the same instance again replaces the first. */
  expect({ service, instance, secretSha256, needs }: Announced): void {
    this.#forgetOld();
    this.#byInstance.delete(instance);
    const [oldest] = this.#byInstance.keys();
    if (this.#byInstance.size >= ADMISSIONS_MAX && oldest !== undefined) this.#byInstance.delete(oldest);
    const secretHash = Buffer.from(secretSha256, "hex");
    this.#byInstance.set(instance, {
      service,
      needs,
      secretHash,
      untilMs: this.#clock.monotonicMs() + this.#admissionMs,
      wrongTries: 0,
    });
  }

  /** Uses up the admission of an instance, and answers whom it may call; IDENTITY_JOIN_REFUSED, which tells nobody what was wrong. */
  take({ service, instance, secret }: { service: string; instance: string; secret: string }): Announced["needs"] {
    this.#forgetOld();
    const admission = this.#byInstance.get(instance);
    // Compared even where nobody is expected, so that the time of the answer does not tell which instances are.
    const right = timingSafeEqual(createHash("sha256").update(secret).digest(), admission?.secretHash ?? NOBODY);
    if (admission && right && admission.service === service) {
      this.#byInstance.delete(instance);
      return admission.needs;
    }
    if (admission && ++admission.wrongTries >= WRONG_TRIES_MAX) this.#byInstance.delete(instance);
    this.#note(service, instance, admission);
    throw fail(
      IDENTITY_JOIN_REFUSED,
      `instance '${instance.slice(0, 100)}' of '${service.slice(0, 100)}' is not expected with this secret`,
    );
  }

  get size(): number {
    return this.#byInstance.size;
  }

  /** Logs the 1st, 2nd, 4th, 8th ... refusal, so that a flood of tries does not fill the log. */
  #note(service: string, instance: string, admission: Admission | undefined): void {
    const refused = ++this.#refused;
    if ((refused & (refused - 1)) !== 0 && admission?.wrongTries !== WRONG_TRIES_MAX) return;
    const why = admission ? "a wrong secret, or that of another service" : "nobody of that name is expected (any more)";
    this.#log.warn(
      {
        service: service.slice(0, 100),
        instance: instance.slice(0, 100),
        refused,
        wrongTries: admission?.wrongTries,
        why,
      },
      "a join was refused",
    );
  }

  #forgetOld(): void {
    const nowMs = this.#clock.monotonicMs();
    // In order of announcement, so the first that is still good ends the search.
    for (const [instance, { untilMs }] of this.#byInstance) {
      if (untilMs > nowMs) return;
      this.#byInstance.delete(instance);
    }
  }
}
