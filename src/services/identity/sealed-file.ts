/** A small value that identity keeps beside its store: JSON, sealed for its purpose, replaced whole. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../../kernel/log.ts";
import { openBytes, sealBytes } from "../../kernel/seal/bytes.ts";
import { replaceFile } from "../../kernel/seal/durable-file.ts";

export interface SealedFileOptions {
  readonly directory: string;
  readonly name: string;
  /** 32 bytes. */
  readonly key: Buffer;
  readonly log: Log;
}

export class SealedFile<T> {
  readonly #o: SealedFileOptions;

  constructor(options: SealedFileOptions) {
    this.#o = options;
  }

  /** Reads what was written last; undefined at the first start, and where it is damaged, which is said in the log. */
  async read(): Promise<T | undefined> {
    const { key, name, log } = this.#o;
    try {
      return JSON.parse(openBytes(key, await readFile(this.#path), this.#purpose).toString()) as T;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT")
        log.error({ err: error, file: name }, "a file of identity cannot be read");
      return undefined;
    }
  }

  async write(value: T): Promise<void> {
    await replaceFile(this.#path, sealBytes(this.#o.key, Buffer.from(JSON.stringify(value)), this.#purpose));
  }

  get #path(): string {
    return join(this.#o.directory, `${this.#o.name}.sealed`);
  }

  get #purpose(): string {
    return `holdfast identity ${this.#o.name}`;
  }
}
