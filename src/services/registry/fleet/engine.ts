/** Joins the fleet that the config names. */
import { createHash } from "node:crypto";
import { fail } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import { REGISTRY_FLEET_REFUSED } from "../codes.ts";
import type { Roster } from "../roster.ts";
import type { Board } from "./board.ts";
import type { FleetConfig } from "./config.ts";
import { Fleet } from "./fleet.ts";

export interface JoinOptions extends EngineOptions {
  /** This node's own. */
  readonly authorities: readonly string[];
  readonly roster: Roster;
  readonly log: Log;
  readonly signal: AbortSignal;
}

export interface EngineOptions {
  readonly config: FleetConfig;
  /** Texts of the files that the config names, by path. */
  readonly secrets: Readonly<Record<string, string>>;
  /** For the engine's lists of connections. */
  readonly node: string;
}

const LOOPBACK = /^(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])$/;
const SCHEMES = { etcd: ["https:", "http:"], nats: ["tls:", "nats:"] } as const;

/** Begins to show this node to the fleet, and the fleet here, until `signal` aborts. REGISTRY_FLEET_REFUSED. */
export async function joinFleet(options: JoinOptions): Promise<Fleet> {
  const { authorities, config } = options;
  const authority = createHash("sha256").update(authorities.join()).digest("hex");
  return new Fleet({ ...options, board: await makeBoard(options), authority, ttlMs: config.ttlMs });
}

/** Opens nothing yet. REGISTRY_FLEET_REFUSED for addresses that do not do. */
export async function makeBoard({ config, secrets, node }: EngineOptions): Promise<Board> {
  const { engine, urls, prefix, ttlMs, timeoutMs, username, passwordFile } = config;
  if (engine === "none") throw fail(REGISTRY_FLEET_REFUSED, "'core-keeper.fleet.engine' is 'none'");
  if (urls.length === 0) throw fail(REGISTRY_FLEET_REFUSED, "'core-keeper.fleet.urls' names no member");
  const [secure, open] = SCHEMES[engine];
  for (const url of urls) {
    const { protocol, hostname } = new URL(url);
    if (protocol !== secure && protocol !== open)
      throw fail(REGISTRY_FLEET_REFUSED, `'${url}': the addresses of ${engine} begin with ${secure}// or ${open}//`);
    if (protocol === open && !LOOPBACK.test(hostname))
      throw fail(REGISTRY_FLEET_REFUSED, `'${url}' is another machine and would be reached without TLS`);
  }
  const tls = tlsOf(config, secrets);
  const password = passwordFile === undefined ? "" : (secrets[passwordFile] ?? "").trim();
  const login = username === undefined ? undefined : { name: username, password };
  const common = { urls, tls, login, timeoutMs, ttlMs };
  // The other one's code is not loaded.
  if (engine === "etcd") return new (await import("./etcd.ts")).EtcdBoard({ ...common, prefix: `${prefix}/` });
  return new (await import("./nats.ts")).NatsBoard({ ...common, bucket: prefix, node });
}

function tlsOf({ caFile, certFile, keyFile }: FleetConfig, secrets: EngineOptions["secrets"]) {
  return {
    minVersion: "TLSv1.2" as const,
    ...(caFile === undefined ? {} : { ca: secrets[caFile] }),
    ...(certFile === undefined ? {} : { cert: secrets[certFile] }),
    ...(keyFile === undefined ? {} : { key: secrets[keyFile] }),
  };
}
