/** A connection that is opened when it is needed, by one for all who wait, and again when it is gone. */

interface Connection {
  readonly isOpen: boolean;
  end(): void | Promise<void>;
}

export class SharedConnection<C extends Connection> {
  readonly #open: () => Promise<C>;
  #opening: Promise<C> | undefined;
  #current: C | undefined;
  #isClosed = false;

  constructor(open: () => Promise<C>) {
    this.#open = open;
  }

  /** The connection, where there is one. */
  get current(): C | undefined {
    return this.#current?.isOpen ? this.#current : undefined;
  }

  async get(): Promise<C> {
    return this.current ?? (await (this.#opening ??= this.#make()));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await (await this.#opening?.catch(() => undefined))?.end();
    await this.#current?.end();
  }

  async #make(): Promise<C> {
    try {
      const made = await this.#open();
      if (this.#isClosed) await made.end();
      return (this.#current = made);
    } finally {
      this.#opening = undefined;
    }
  }
}
