/** One service of a process: its context, its sockets, its place in the registry, its orderly end. */
import { join } from "node:path";
import type { Auditor } from "../kernel/audit.ts";
import { type Contract, routesOf } from "../kernel/contract.ts";
import { digestKept } from "../kernel/names.ts";
import { type ConnectOptions, connect, type Resolver, type Target } from "../kernel/connect.ts";
import { systemClock } from "../kernel/clock.ts";
import { asFailure, fail } from "../kernel/error.ts";
import { IDENTITY_NOT_READY } from "../kernel/identity/codes.ts";
import type { TlsIdentity } from "../kernel/identity/tls.ts";
import type { Log } from "../kernel/log.ts";
import type { Calls } from "../kernel/metrics/calls.ts";
import type { Metrics } from "../kernel/metrics/metrics.ts";
import { serve, type ListenAt, type Served } from "../kernel/serve.ts";
import { StoreKeys } from "../kernel/seal/store-keys.ts";
import type { DataKey } from "../kernel/seal/keyring.ts";
import type { Context, ServiceMain, Started, SupervisorLine } from "../kernel/service.ts";
import type { Tracer } from "../kernel/trace.ts";
import { type Registry, registry as registryContract } from "../services/registry/api.ts";
import { holdLease, keepTable, type Lease, makeResolver, Table } from "../services/registry/client.ts";
import type { Hello, Part } from "./hello.ts";
import type { Health } from "./health.ts";
import { Needs } from "./needs.ts";

/** Finds the other services; identity makes its own certificate only when it starts, so the way to others may come later. */
export class Lookup implements Resolver {
  readonly table = new Table();
  readonly #hello: Hello;
  #resolver: Resolver | undefined;

  constructor(hello: Hello) {
    this.#hello = hello;
  }

  set identity(identity: TlsIdentity) {
    this.#resolver ??= makeResolver({ table: this.table, identity, fixed: this.#hello.addresses });
  }

  pick(service: string): Target | Promise<Target> {
    if (!this.#resolver) throw fail(IDENTITY_NOT_READY, `${service} cannot be called yet: there is no certificate`);
    return this.#resolver.pick(service);
  }

  failed(service: string, target: Target): void {
    this.#resolver?.failed(service, target);
  }
}

/** All that runs for one service. */
export interface Running {
  readonly hello: Hello;
  readonly part: Part;
  readonly main: ServiceMain;
  readonly log: Log;
  readonly tracer: Tracer;
  readonly audit: Auditor;
  readonly metrics: Metrics;
  readonly calls: Calls;
  readonly health: Health;
  readonly stopping: AbortSignal;
}

/** Makes the context of a service that runs in a process of its own. */
export function contextOf(
  running: Running,
  options: { identity: TlsIdentity | undefined; lookup: Lookup; line: SupervisorLine },
): Context<never> {
  const { hello, part, log, tracer, audit, metrics, stopping } = running;
  const keys = keysOf(part, options.line);
  return {
    name: part.name,
    node: hello.node,
    instance: part.instance,
    version: hello.version,
    directory: part.directory,
    config: part.config as never,
    key: (purpose) => keys.key(purpose),
    keys: (purpose) => keys.keys(purpose),
    secrets: part.secrets,
    log,
    clock: systemClock,
    tracer,
    audit,
    metrics,
    supervisor: options.line,
    identity: options.identity,
    doors: doorsOf(part),
    stopping,
    connect: (contract: Contract, more?: Partial<ConnectOptions>) =>
      connect(contract, { resolver: options.lookup, ...more }) as never,
  };
}

const dataKeysOf = ({ dataKeys }: Part): DataKey[] =>
  dataKeys.map(({ id, key }) => ({ id, key: Buffer.from(key, "base64") }));

/** The keys of a part; a further one comes over its line, and the answer says how long the longest wait for it was. */
export function keysOf(part: Part, line: SupervisorLine): StoreKeys {
  const keys = new StoreKeys(part.name, dataKeysOf(part));
  line.on("key", ({ id, key }) => {
    const next = { id: Number(id), key: Buffer.from(String(key), "base64") };
    keys.add(next).then(
      (pauseMs) => line.send("key", { id: next.id, pauseMs }),
      (error: unknown) => line.send("key", { id: next.id, error: asFailure(error).message }),
    );
  });
  return keys;
}

/** The doors of a part as its service listens on them. */
export const doorsOf = (part: Part): Record<string, ListenAt> =>
  Object.fromEntries(Object.entries(part.doors).map(([name, fd]) => [name, { fd }]));

/** Serves the contract on the part's sockets: mutual TLS for services, plain for the operator's Unix socket and open EdgeX. */
export async function serveAll(
  running: Running,
  started: Started<Contract>,
  identity: TlsIdentity | undefined,
): Promise<Served[]> {
  const { hello, part, main, log, tracer, audit, calls } = running;
  const shared = {
    contract: main.contract,
    service: started.service,
    log,
    clock: systemClock,
    tracer,
    audit,
    calls,
    instance: part.instance,
    version: hello.version,
  };
  return Promise.all([
    ...(identity ? [serve({ ...shared, listen: { fd: part.listen.fd }, identity, upgrades: started.upgrades })] : []),
    ...(part.control === undefined
      ? []
      : [serve({ ...shared, listen: { fd: part.control }, plainCaller: "cli" as const })]),
    ...(part.openEdgex === undefined
      ? []
      : [serve({ ...shared, listen: { fd: part.openEdgex.fd }, plainCaller: "open-edgex" as const })]),
  ]);
}

/** Registers the service and keeps it registered; until it is up it is there as `critical`, which nobody is sent to. */
export function hold(running: Running, options: { registry: Registry; table: Table }): Lease {
  const { hello, part, main, log, health } = running;
  const startedAtMs = Date.now();
  const { host, port } = part.listen;
  const digest = digestKept(main.contract);
  health.needs = new Needs(main.needs, options.table, systemClock);
  return holdLease({
    ...options,
    log,
    // Its place is given up by `release`, after the drain began; nothing else ends it.
    signal: new AbortController().signal,
    health: () => health.now(),
    instance: () => ({
      service: part.name,
      instance: part.instance,
      host,
      port,
      boot: hello.boot,
      pid: process.pid,
      version: hello.version,
      startedAtMs,
      digest,
      ...(part.openEdgex ? { edgexPort: part.openEdgex.port } : {}),
      state: "critical" as const,
      routes: routesOf(main.contract),
    }),
  });
}

/** Keeps the table of a service that has a place on the disk for it over its restarts. */
export function rememberTable({ hello, part, main, log }: Running, table: Table): void {
  if (!main.stateful || part.standalone) return;
  const key = new StoreKeys(part.name, dataKeysOf(part)).key("registry-table");
  keepTable(table, { path: join(part.directory, "registry-table"), key, boot: hello.boot, log });
}

/** Makes the client of the registry for a process. */
export const registryOf = (lookup: Lookup): Registry => connect(registryContract, { resolver: lookup });

export interface Parts {
  readonly started: Started<Contract>;
  readonly served: readonly Served[];
  readonly lease: Lease | undefined;
  readonly stopShipping: (() => Promise<void>) | undefined;
}

/** Lets who calls a service go to its successor, or wait for it, while it still answers those who have not heard of that. */
export async function handOver({ health, log }: Running, { lease, served }: Parts): Promise<void> {
  try {
    health.drain();
    // Who hears that it drains before it goes knows that another one comes.
    await lease?.renew();
    await lease?.release();
    await Promise.all(served.map((door) => door.drain()));
  } catch (error) {
    log.warn({ err: error }, "the service could not be handed over in order");
  }
}

/** Ends a service: no new requests, the last ones answered, its own work ended, its spans shipped, its place given up. */
export async function stopPart({ health, log }: Running, parts: Parts): Promise<void> {
  health.drain();
  const steps: [string, () => Promise<unknown> | undefined][] = [
    ["releasing its place in the registry", () => parts.lease?.release()],
    ["ending its requests", () => Promise.all(parts.served.map((door) => door.close()))],
    ["ending its work", () => parts.started.stop?.()],
    ["shipping its spans and notes", () => parts.stopShipping?.()],
  ];
  for (const [what, step] of steps) {
    try {
      await step();
    } catch (error) {
      log.warn({ err: error }, `${what} failed while stopping`);
    }
  }
}
