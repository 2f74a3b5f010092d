/** The routes file: read when the node starts and whenever it changes, and handed to the gateway, which may not read it itself. */
import type { ConfigValues } from "../kernel/config.ts";
import { existsSync, type FSWatcher, watch } from "node:fs";
import { basename, dirname, join } from "node:path";
import { readYamlFile } from "../kernel/config-file.ts";
import type { Log } from "../kernel/log.ts";

/** The file that the gateway's section names; empty where it names none, or no gateway runs. */
export const routesFileIn = (values: ConfigValues): string =>
  ((values["gateway"] as { routesFile?: string } | undefined)?.routesFile ?? "").trim();

/** Its name in the state directory, where the config names no other. */
const ROUTES_FILE = "routes.yaml";
/** Editors write a file in several steps. */
const SETTLE_MS = 100;

export interface RoutesFileOptions {
  /** `gateway.routesFile`; empty for the one in the state directory. */
  readonly named: string;
  readonly statePath: string;
  readonly log: Log;
}

/** What the gateway is told. */
export interface RoutesMessage {
  readonly [field: string]: unknown;
  readonly file: string;
  readonly value: unknown;
}

export class RoutesFile {
  readonly #path: string;
  readonly #named: boolean;
  readonly #log: Log;
  #watcher: FSWatcher | undefined;
  #settling: NodeJS.Timeout | undefined;

  constructor({ named, statePath, log }: RoutesFileOptions) {
    this.#named = named !== "";
    this.#path = this.#named ? named : join(statePath, ROUTES_FILE);
    this.#log = log;
  }

  /** What the file says now; no routes where there is none. Undefined where it cannot be read, which is logged. */
  read(): RoutesMessage | undefined {
    const file = this.#path;
    if (!this.#named && !existsSync(file)) return { file, value: {} };
    try {
      return { file, value: readYamlFile(file) };
    } catch (error) {
      this.#log.error({ err: error }, "the routes file cannot be read: the routes that were there go on");
      return undefined;
    }
  }

  /** Calls back when it changes. The folder is watched: an editor puts a new file in the place of the old. */
  follow(onChange: (message: RoutesMessage) => void): void {
    const name = basename(this.#path);
    try {
      this.#watcher = watch(dirname(this.#path), (_, changed) => {
        if (changed !== name) return;
        clearTimeout(this.#settling);
        this.#settling = setTimeout(() => {
          const message = this.read();
          if (message) onChange(message);
        }, SETTLE_MS);
      });
    } catch (error) {
      this.#log.warn({ err: error }, "the routes file cannot be watched: a change counts from the next start on");
    }
  }

  close(): void {
    clearTimeout(this.#settling);
    this.#watcher?.close();
  }
}
