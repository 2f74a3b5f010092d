/** Who may join: announced to identity and not ready yet; told again to an identity that was restarted. */
export interface Joiner {
  readonly service: string;
  readonly instance: string;
  readonly secretSha256: string;
  /** Whom it may call; everybody where it is absent. */
  readonly needs?: readonly string[];
}

export class Expected {
  readonly #byInstance = new Map<string, Joiner>();
  readonly #isRunning: (instance: string) => boolean;

  constructor(isRunning: (instance: string) => boolean) {
    this.#isRunning = isRunning;
  }

  /** Expects one more; an earlier instance of the service that is gone is expected no longer. */
  add(joiner: Joiner): void {
    for (const [instance, { service }] of this.#byInstance)
      if (service === joiner.service && instance !== joiner.instance && !this.#isRunning(instance))
        this.#byInstance.delete(instance);
    this.#byInstance.set(joiner.instance, joiner);
  }

  /** A service has come: nobody else of it is expected. */
  came(service: string): void {
    for (const [instance, joiner] of this.#byInstance)
      if (joiner.service === service) this.#byInstance.delete(instance);
  }

  all(): IterableIterator<Joiner> {
    return this.#byInstance.values();
  }
}
