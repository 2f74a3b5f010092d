/** Things that the config declares and people change while the node runs: a change holds until the config says something else. */
import type { TSchema } from "typebox";
import { checkConfig } from "../../../kernel/config.ts";
import { asFailure, fail } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import { PIPELINE_NAME_INVALID, PIPELINE_TOO_MANY } from "../pipelines.api.ts";
import type { Changed, PipelineTables } from "./tables.ts";

export interface Entry<T> {
  readonly value: T;
  /** Where it comes from: the config file, or a change while running. */
  readonly origin: "config" | "changed";
}

export interface CatalogueOptions<T> {
  /** `pipeline` or `rule`. */
  readonly kind: string;
  readonly schema: TSchema;
  readonly declared: Readonly<Record<string, T>>;
  readonly sizeMax: number;
  readonly tables: PipelineTables;
  readonly log: Log;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

export class Catalogue<T> {
  readonly #o: CatalogueOptions<T>;
  readonly #entries = new Map<string, Entry<T>>();

  /** PIPELINE_TOO_MANY. */
  constructor(options: CatalogueOptions<T>) {
    this.#o = options;
    const { declared, kind, sizeMax, tables } = options;
    if (Object.keys(declared).length > sizeMax)
      throw fail(PIPELINE_TOO_MANY, `the config has more than ${sizeMax} ${kind}s`);
    for (const [name, value] of Object.entries(declared)) this.#entries.set(name, { value, origin: "config" });
    for (const change of tables.changed(kind)) this.#apply(change);
  }

  get all(): ReadonlyMap<string, Entry<T>> {
    return this.#entries;
  }

  /** Reads a definition as people give it, with defaults filled in. PIPELINE_NAME_INVALID, PIPELINE_TOO_MANY, CONFIG_KEY_UNKNOWN, CONFIG_VALUE_INVALID. */
  read(name: string, given: unknown): T {
    const { kind, schema, sizeMax } = this.#o;
    if (!NAME.test(name))
      throw fail(
        PIPELINE_NAME_INVALID,
        `'${name.slice(0, 100)}' is no name of a ${kind}: letters, digits, '.', '_' and '-', at most 64`,
      );
    if (!this.#entries.has(name) && this.#entries.size >= sizeMax)
      throw fail(PIPELINE_TOO_MANY, `there are ${sizeMax} ${kind}s already`);
    return checkConfig(schema, given, name, kind) as T;
  }

  set(name: string, value: T): void {
    const { kind, tables } = this.#o;
    tables.change(kind, { name, declared: this.#declared(name), json: JSON.stringify(value) });
    this.#entries.set(name, { value, origin: "changed" });
  }

  /** Answers whether there was one. */
  remove(name: string): boolean {
    const { kind, tables } = this.#o;
    if (!this.#entries.has(name)) return false;
    const declared = this.#declared(name);
    if (declared === undefined) tables.unchange(kind, name);
    else tables.change(kind, { name, declared, json: undefined });
    return this.#entries.delete(name);
  }

  #declared(name: string): string | undefined {
    const { declared } = this.#o;
    return Object.hasOwn(declared, name) ? JSON.stringify(declared[name]) : undefined;
  }

  #apply({ name, declared, json }: Changed): void {
    const { kind, log, schema, tables } = this.#o;
    if (declared !== this.#declared(name)) {
      log.warn(
        { [kind]: name },
        `the config says something new of this ${kind}: what was changed of it while running is over`,
      );
      return tables.unchange(kind, name);
    }
    if (json === undefined) return void this.#entries.delete(name);
    try {
      const value = checkConfig(schema, JSON.parse(json), name, kind) as T;
      this.#entries.set(name, { value, origin: "changed" });
    } catch (error) {
      log.error({ [kind]: name, err: asFailure(error) }, `a changed ${kind} cannot be used by this version`);
    }
  }
}
