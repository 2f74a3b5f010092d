/** An answer on its way into the cache. */
export class Flight {
  /** The route that asks. */
  readonly owner: string;
  readonly shared: boolean;
  /** Settles when what there is to keep is kept. */
  readonly landed: Promise<void>;
  /** What it asks for has been changed meanwhile: its answer is not kept. */
  overtaken = false;
  readonly #over: () => void;
  #land: (() => void) | undefined;

  constructor(owner: string, shared: boolean, over: () => void) {
    this.owner = owner;
    this.shared = shared;
    this.#over = over;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.landed = promise;
    this.#land = resolve;
  }

  land(): void {
    if (!this.#land) return;
    this.#over();
    this.#land();
    this.#land = undefined;
  }
}
