/** Secrets of services (passwords of brokers, tokens of clouds): in one sealed file, handed over a pipe to who names them. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { code, Failure, fail } from "../../kernel/error.ts";
import { openBytes, sealBytes } from "../../kernel/seal/bytes.ts";
import { SEAL_BYTES_REFUSED } from "../../kernel/seal/codes.ts";
import { replaceFile } from "../../kernel/seal/durable-file.ts";
import type { KeyRing } from "../../kernel/seal/keyring.ts";

export const NODE_SECRET_INVALID = code(
  "NODE_SECRET_INVALID",
  "invalid",
  "Use up to 63 lower-case letters, digits, '.' and '-' for the name; give the value by a pipe or at the prompt, not empty, up to 64 KiB.",
);
export const NODE_SECRET_UNKNOWN = code(
  "NODE_SECRET_UNKNOWN",
  "not-found",
  "'holdfast secret list' shows the names that there are.",
);
export const NODE_SECRETS_TOO_MANY = code("NODE_SECRETS_TOO_MANY", "limited", "Remove secrets that nobody names.");

const FILE = "secrets";
/** The key ring's store for it. */
const STORE = "secrets";
const PURPOSE = "holdfast secrets of services";
export const NAME = /^[a-z0-9][a-z0-9.-]{0,62}$/;
/** Far more than a node has destinations. */
const SECRETS_MAX = 256;
export const VALUE_BYTES_MAX = 65_536;

type Values = Readonly<Record<string, string>>;

export class Secrets {
  readonly #path: string;
  readonly #ring: KeyRing;
  #values: ReadonlyMap<string, string>;
  /** Changes run one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(path: string, ring: KeyRing, values: Values) {
    this.#path = path;
    this.#ring = ring;
    this.#values = new Map(Object.entries(values));
  }

  /** Opens the file in a directory; without one there are no secrets. SEAL_BYTES_REFUSED. */
  static async open(directory: string, ring: KeyRing): Promise<Secrets> {
    const path = join(directory, FILE);
    if (!existsSync(path)) return new Secrets(path, ring, {});
    const sealed = readFileSync(path);
    for (const { key } of (await ring.dataKeys(STORE)).reverse()) {
      try {
        const plain = openBytes(key, sealed, PURPOSE);
        const values = JSON.parse(plain.toString("utf8")) as Values;
        plain.fill(0);
        return new Secrets(path, ring, values);
      } catch (error) {
        // A cut between a rotation and the new file: it is under the key before.
        if (!(error instanceof Failure)) throw error;
      } finally {
        key.fill(0);
      }
    }
    throw fail(SEAL_BYTES_REFUSED, `${path} opens with no key of the key ring`);
  }

  names(): string[] {
    return [...this.#values.keys()].sort();
  }

  get(name: string): string | undefined {
    return this.#values.get(name);
  }

  /** Keeps a secret, in place of one of the same name; NODE_SECRET_INVALID, NODE_SECRETS_TOO_MANY. */
  set(name: string, value: string): Promise<void> {
    if (!NAME.test(name)) throw fail(NODE_SECRET_INVALID, `'${name}' is no name for a secret`);
    if (value === "" || Buffer.byteLength(value) > VALUE_BYTES_MAX)
      throw fail(NODE_SECRET_INVALID, `the value of '${name}' has ${Buffer.byteLength(value)} bytes`);
    if (!this.#values.has(name) && this.#values.size >= SECRETS_MAX)
      throw fail(NODE_SECRETS_TOO_MANY, `there are ${SECRETS_MAX} secrets, no room for '${name}'`);
    return this.#save((values) => values.set(name, value));
  }

  /** Removes a secret; NODE_SECRET_UNKNOWN. */
  remove(name: string): Promise<void> {
    if (!this.#values.has(name)) throw fail(NODE_SECRET_UNKNOWN, `there is no secret '${name}'`);
    return this.#save((values) => values.delete(name));
  }

  /** Goes on under a new key. */
  async rotate(): Promise<void> {
    if (this.#values.size === 0) return;
    await this.#ring.rotate(STORE);
    await this.#save(() => undefined);
  }

  #save(change: (values: Map<string, string>) => unknown): Promise<void> {
    const saved = this.#last.then(() => this.#write(change));
    // The next in turn runs whether or not this one failed; its caller has the failure.
    this.#last = saved.catch(() => undefined);
    return saved;
  }

  async #write(change: (values: Map<string, string>) => unknown): Promise<void> {
    const values = new Map(this.#values);
    change(values);
    const key = await this.#ring.dataKey(STORE);
    const plain = Buffer.from(JSON.stringify(Object.fromEntries(values)));
    await replaceFile(this.#path, sealBytes(key, plain, PURPOSE));
    plain.fill(0);
    key.fill(0);
    this.#values = values;
  }
}
