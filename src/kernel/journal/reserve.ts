/**
 * Room that is given back when the disk is full: a journal whose records are all done with must begin a new file before it can
 * delete the old one, and would otherwise keep a full disk full for ever.
 */
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isDiskFull } from "./disk.ts";

export const RESERVE_NAME = "reserve";
/** A new segment's headers, the ledger, and what the file system wants for them. */
const RESERVE_BYTES = 65_536;

export class Reserve {
  readonly #path: string;
  #isKept = false;

  constructor(directory: string) {
    this.#path = join(directory, RESERVE_NAME);
  }

  /** Keeps room where there is some; where there is none it is tried again at the next call. */
  async keep(): Promise<void> {
    if (this.#isKept) return;
    try {
      await writeFile(this.#path, Buffer.alloc(RESERVE_BYTES), { mode: 0o600 });
      this.#isKept = true;
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      await this.#free();
    }
  }

  /** Does something that needs room, once more with the reserve given back where the disk is full. */
  async within<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!isDiskFull(error) || !this.#isKept) throw error;
      await this.#free();
      return work();
    }
  }

  async #free(): Promise<void> {
    this.#isKept = false;
    await rm(this.#path, { force: true });
  }
}
