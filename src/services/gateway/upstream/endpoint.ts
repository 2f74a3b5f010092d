/** An instance to send to, and how it has been doing. */

/** An instance that failed is left alone for so long; each further failure doubles it up to the most. */
export interface EjectTimes {
  readonly ms: number;
  readonly msMax: number;
}

/** One that did not fail for so long starts from the shortest time again. */
const FORGIVE_MS = 20_000;
/** A latency counts half after so long. */
const HALF_MS = 5_000;

/** `peer`: mutual TLS of this node; `tls` and `plain`: servers of others. */
export type Security = "peer" | "tls" | "plain";

export interface Address {
  readonly service: string;
  readonly instance: string;
  readonly host: string;
  readonly port: number;
  readonly security: Security;
}

export class Endpoint implements Address {
  readonly service: string;
  readonly instance: string;
  readonly host: string;
  readonly port: number;
  readonly security: Security;
  /** When it came to be known, on the monotonic clock. */
  readonly bornMs: number;
  /** 0 passing, 1 warning, 2 not confirmed since the registry's restart, 3 draining. */
  rank = 0;
  running = 0;
  ejectedUntilMs = 0;
  /** An active check says that it does not work. */
  unwell = false;
  /** Bad answers since the last good one. */
  badAnswers = 0;
  /** The peak of its latencies, moving down slowly; measured only where somebody chooses by it. */
  latencyMs = 0;
  #latencyAtMs = 0;
  #failedMs = Number.NEGATIVE_INFINITY;
  #strikes = 0;

  constructor(address: Address, bornMs: number) {
    this.service = address.service;
    this.instance = address.instance;
    this.host = address.host;
    this.port = address.port;
    this.security = address.security;
    this.bornMs = bornMs;
  }

  /** Leaves it alone for a while. */
  eject(nowMs: number, { ms, msMax }: EjectTimes): void {
    this.#strikes = nowMs - this.#failedMs > FORGIVE_MS ? 0 : this.#strikes + 1;
    this.#failedMs = nowMs;
    this.badAnswers = 0;
    this.ejectedUntilMs = nowMs + Math.min(msMax, ms * 2 ** Math.min(this.#strikes, 30));
  }

  forgive(): void {
    this.ejectedUntilMs = 0;
    this.badAnswers = 0;
  }

  /** Notes how long it took to answer: up at once, down slowly. */
  took(ms: number, nowMs: number): void {
    const kept = 2 ** (-(nowMs - this.#latencyAtMs) / HALF_MS);
    this.latencyMs = ms > this.latencyMs ? ms : this.latencyMs * kept + ms * (1 - kept);
    this.#latencyAtMs = nowMs;
  }

  is({ instance, host, port, security }: Address): boolean {
    return this.instance === instance && this.host === host && this.port === port && this.security === security;
  }
}
