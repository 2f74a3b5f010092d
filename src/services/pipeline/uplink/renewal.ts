/** Renews the node's certificate at a third of its lifetime; failing that the old one serves on. */
import { X509Certificate } from "node:crypto";
import type { Clock } from "../../../kernel/clock.ts";
import { asFailure } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import type { Link, Signed } from "./link.ts";

/** A renewal that failed is tried again after so long. */
const RETRY_MS = 60_000;
/** A new certificate looks old at once where the clock is wrong: it is not renewed again before this. */
const AGAIN_MS = 3_600_000;

export class Renewal {
  readonly #clock: Clock;
  readonly #log: Log;
  #dueAtMs: number;
  #notBeforeMs = Number.NEGATIVE_INFINITY;

  constructor({ certPem, clock, log }: { certPem: string; clock: Clock; log: Log }) {
    this.#clock = clock;
    this.#log = log;
    this.#dueAtMs = dueAt(certPem);
  }

  /** Renews when it is time; gives what is new. Never fails: what keeps the cloud from renewing keeps nothing else. */
  async ifDue(link: Link, signal: AbortSignal): Promise<Signed | undefined> {
    if (this.#clock.wallMs() < this.#dueAtMs || this.#clock.monotonicMs() < this.#notBeforeMs) return undefined;
    this.#notBeforeMs = this.#clock.monotonicMs() + RETRY_MS;
    try {
      const signed = await link.renew(signal);
      this.#dueAtMs = dueAt(signed.certPem);
      this.#notBeforeMs = this.#clock.monotonicMs() + AGAIN_MS;
      this.#log.info({ dueAtMs: this.#dueAtMs }, "the node's certificate at the cloud was renewed");
      return signed;
    } catch (error) {
      const { code, message } = asFailure(error);
      this.#log.warn({ code, err: message }, "the node's certificate at the cloud could not be renewed yet");
      return undefined;
    }
  }
}

function dueAt(certPem: string): number {
  const { validFrom, validTo } = new X509Certificate(certPem);
  const [from, to] = [Date.parse(validFrom), Date.parse(validTo)];
  return from + (to - from) / 3;
}
