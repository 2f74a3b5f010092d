/** What a service is to the process that runs it: its contract, its config, what it needs, and how it starts. */
import { type Static, type TObject, type TSchema, Type } from "typebox";
import type { Auditor } from "./audit.ts";
import type { Clock } from "./clock.ts";
import type { Reach } from "./config.ts";
import type { ConnectOptions } from "./connect.ts";
import type { Contract, Service } from "./contract.ts";
import type { TlsIdentity } from "./identity/tls.ts";
import type { Log } from "./log.ts";
import type { Metrics } from "./metrics/metrics.ts";
import type { ListenAt } from "./serve.ts";
import type { PurposeKeys } from "./seal/store-keys.ts";
import type { Upgrades } from "./serve-upgrade.ts";
import type { Tracer } from "./trace.ts";

/** All that a service is given. It reaches for nothing else: no environment, no global, no other room. */
export interface Context<Config> {
  /** Service key, e.g. `core-data`; also its name in certificates, the registry and logs. */
  readonly name: string;
  /** The node's name. */
  readonly node: string;
  /** This instance: unique over restarts. */
  readonly instance: string;
  /** Holdfast's version. */
  readonly version: string;
  readonly config: Config;
  /** The service's own directory (0700), the only place it may write. Plaintext must not go there. */
  readonly directory: string;
  /** Derives a 32-byte key for one purpose from the service's first data key: it lasts as long as the service's state. */
  key(purpose: string): Buffer;
  /** Derives the chain of keys for one purpose (`database`, `journal`): it grows by a rotation while the service runs. */
  keys(purpose: string): PurposeKeys;
  /** Texts of the files that the config names (`reach: "file"`), by path: the supervisor hands them over the pipe. */
  readonly secrets: Readonly<Record<string, string>>;
  readonly log: Log;
  readonly clock: Clock;
  readonly tracer: Tracer;
  /** Where who did what, and who was denied, is noted for the audit trail. */
  readonly audit: Auditor;
  /** What the service counts beside what is counted of every one; scraped through the gateway (docs/metrics.md). */
  readonly metrics: Metrics;
  /** The line to the supervisor: small messages both ways (which instances may join, how far the start has come). */
  readonly supervisor: SupervisorLine;
  /** Absent with `--compact`, where services call each other without a wire. */
  readonly identity: TlsIdentity | undefined;
  /** Further sockets the service declared as doors, opened by the supervisor; a door that is switched off is absent. */
  readonly doors: Readonly<Record<string, ListenAt>>;
  /** Makes the client of another service. */
  connect<C extends Contract>(contract: C, options?: Partial<ConnectOptions>): Service<C>;
  /** Aborts when the service is to stop; with HANDED_OVER as its reason where a successor has its place already. */
  readonly stopping: AbortSignal;
}

/** Why a service stops that has a successor: whoever calls it has time to go there. */
export const HANDED_OVER = new DOMException("a successor takes over", "AbortError");

export interface SupervisorLine {
  /** Calls back for each message of a kind, those that came before included. */
  on(kind: string, handle: (message: Readonly<Record<string, unknown>>) => void): void;
  send(kind: string, message: Readonly<Record<string, unknown>>): void;
}

export interface Started<C extends Contract> {
  readonly service: Service<C>;
  /** For services with `ownIdentity`: what they serve with. */
  readonly identity?: TlsIdentity;
  /** Protocols beside HTTP that the contract's socket is asked to switch to, by the gateway alone (`Upgrade`, RFC 9110 7.8). */
  readonly upgrades?: Upgrades;
  /** `warning` with a reason where it works but not well; shown by the registry and `holdfast status`. */
  health?(): { state: "passing" | "warning"; reason?: string };
  /** Called after the last request has ended: flush, close files. The supervisor bounds it. */
  stop?(): Promise<void>;
}

/** A socket beside the contract's own. */
export interface Door {
  readonly name: string;
  readonly port: number;
  /** `always`: open; `configured`: only where `node.doors` has it; `open-edgex`: with that flag; the last two on loopback, without TLS. */
  readonly when: "always" | "configured" | "open-edgex";
  /** TCP unless said; of `both`, the socket for UDP is the door `<name>-udp` of the context. */
  readonly protocol?: "udp" | "both";
}

export interface ServiceMain<C extends Contract = Contract, S extends TObject = TObject> {
  readonly contract: C;
  /** Strict (additionalProperties: false); every field with description, default and examples; units last in the name. */
  readonly config: S;
  /** Contracts it calls: what the sandbox lets it connect to, and what must be up first. */
  readonly needs: readonly string[];
  /** Owns state in its directory (then it runs as one instance). */
  readonly stateful: boolean;
  /** Runs as several processes on a machine that has the cores and the memory, unless the config says how many. */
  readonly spreads?: boolean;
  /** Has much to take in at times: its process collects its garbage early, for a little CPU. */
  readonly frugal?: boolean;
  readonly doors?: readonly Door[];
  /** Files and folders of the machine that it reads (device-host: /proc/stat); the sandbox opens these beside its own. */
  readonly reads?: readonly string[];
  /** Makes its own certificate (identity, cloud) instead of joining the node's authority. */
  readonly ownIdentity?: boolean;
  start(context: Context<Static<S>>): Promise<Started<C>>;
}

/** A service that says only what is not as usual: no config, no needs and no state of its own unless it has them. */
export type ServiceSpec<C extends Contract, S extends TObject> = Omit<
  ServiceMain<C, S>,
  "config" | "needs" | "stateful"
> &
  Partial<Pick<ServiceMain<C, S>, "config" | "needs" | "stateful">>;

/** Makes a service's main; `main.ts` of every service exports the value as `main`. An unknown key of its config is refused. */
export const defineService = <C extends Contract, S extends TObject>(spec: ServiceSpec<C, S>): ServiceMain<C, S> => ({
  needs: [],
  stateful: false,
  ...spec,
  config: Object.assign({}, spec.config ?? Type.Object({}), { additionalProperties: false }) as unknown as S,
});

/** A config field: its schema with meaning, default and example, from which docs/config.md is made, and what it reaches outside. */
export const field = <S extends TSchema>(
  schema: S,
  doc: { description: string; default: unknown; example?: unknown; reach?: Reach },
): S => Object.assign({}, schema, doc);
