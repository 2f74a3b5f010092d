/** What a service's config reaches outside of it: files whose text it gets, and addresses that it connects to and from. */
import { readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";
import { type ConfigSchema, walkConfig } from "./config.ts";
import { code, fail } from "./error.ts";

export const CONFIG_NAMED_FILE_UNREADABLE = code(
  "CONFIG_NAMED_FILE_UNREADABLE",
  "invalid",
  "Put the file where the key of the config says, readable for the node's user, or name another.",
);

export const CONFIG_SECRET_MISSING = code(
  "CONFIG_SECRET_MISSING",
  "invalid",
  "Set the secret with 'holdfast secret set NAME' and start the service again, or name a file.",
);

/** What a key of the config names instead of a file: `secret:NAME`. */
const SECRET = "secret:";
/** Certificates, keys and passwords are far smaller; a larger file is refused: it was named by mistake. */
const FILE_BYTES_MAX = 262_144;

/** Where an address that names no port leads. */
const PORTS: Readonly<Record<string, number>> = {
  "https:": 443,
  "http:": 80,
  "mqtts:": 8883,
  "mqtt:": 1883,
  "tls:": 4222,
  "nats:": 4222,
};

/** Tells the port that an address leads to; undefined where it has none and its scheme is unknown. */
export function portOf(url: string): number | undefined {
  if (!URL.canParse(url)) return undefined;
  const { port, protocol } = new URL(url);
  return port === "" ? PORTS[protocol] : Number(port);
}

/** What the sandbox has to allow for a config. */
export interface ConfigReach {
  readonly connectPorts: readonly number[];
  /** It connects from addresses of its choice, and binds to them for that. */
  readonly isBinding: boolean;
  /** Some of what it connects to is named by host, not by address. */
  readonly isNaming: boolean;
}

/** Tells what a checked config has its service connect to and from. */
export function reachOf(schema: ConfigSchema, value: unknown): ConfigReach {
  const ports = new Set<number>();
  let isBinding = false;
  let isNaming = false;
  walkConfig(schema, value, ({ reach }, found) => {
    if (typeof found !== "string" || found === "") return;
    const port = reach === "url" ? portOf(found) : undefined;
    if (port !== undefined) {
      ports.add(port);
      isNaming ||= isIP(new URL(found).hostname.replace(/^\[|\]$/g, "")) === 0;
    }
    isBinding ||= reach === "local-address";
  });
  return { connectPorts: [...ports], isBinding, isNaming };
}

/**
 * Reads the files that a checked config names, and the secrets (`secret:NAME`): text by path. The supervisor does, since a service may open none but its
 * own; it does so at each start of the service. CONFIG_NAMED_FILE_UNREADABLE, also above FILE_BYTES_MAX; CONFIG_SECRET_MISSING.
 */
export function readNamedFiles(
  schema: ConfigSchema,
  value: unknown,
  section: string,
  secretOf: (name: string) => string | undefined = () => undefined,
): Record<string, string> {
  const files: Record<string, string> = {};
  walkConfig(
    schema,
    value,
    ({ reach }, found, path) => {
      if (reach !== "file" || typeof found !== "string" || found === "") return;
      files[found] ??= found.startsWith(SECRET) ? secretNamed(found, path, secretOf) : readNamed(found, path);
    },
    section,
  );
  return files;
}

function secretNamed(found: string, path: string, secretOf: (name: string) => string | undefined): string {
  const value = secretOf(found.slice(SECRET.length));
  if (value === undefined) throw fail(CONFIG_SECRET_MISSING, `'${path}' names ${found}, and there is no such secret`);
  return value;
}

function readNamed(file: string, path: string): string {
  try {
    if (statSync(file).size > FILE_BYTES_MAX)
      throw fail(CONFIG_NAMED_FILE_UNREADABLE, `'${path}' names ${file}, which has over ${FILE_BYTES_MAX} bytes`);
    return readFileSync(file, "utf8");
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code ?? "";
    if (!/^E[A-Z]+$/.test(reason)) throw cause;
    throw fail(CONFIG_NAMED_FILE_UNREADABLE, `'${path}' names ${file}, which cannot be read (${reason})`, { cause });
  }
}
