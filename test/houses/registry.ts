/**
 * What the registry's tests stand on: registries and holders over real TLS. Run with `hold` or `serve`, it is such a
 * process.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Type } from "typebox";
import { systemClock } from "../../src/kernel/clock.ts";
import { connect } from "../../src/kernel/connect.ts";
import { contract, get } from "../../src/kernel/contract.ts";
import type { Authority } from "../../src/kernel/identity/authority.ts";
import { makeKeyAndRequest } from "../../src/kernel/identity/request.ts";
import { TlsIdentity } from "../../src/kernel/identity/tls.ts";
import { makeLog } from "../../src/kernel/log.ts";
import { serve } from "../../src/kernel/serve.ts";
import { Tracer } from "../../src/kernel/trace.ts";
import { type Change, type Instance, registry as registryContract } from "../../src/services/registry/api.ts";
import { followTable, holdLease, makeResolver, Table } from "../../src/services/registry/client.ts";
import { probe } from "../../src/services/registry/probe.ts";
import { makeRegistry, type RegistryOptions } from "../../src/services/registry/service.ts";
import { openRegistryStore } from "../../src/services/registry/store.ts";

export interface Papers {
  readonly service: string;
  readonly caPem: string;
  readonly certPem: string;
  readonly keyPem: string;
}

export interface Order {
  readonly papers: Papers;
  readonly registryPort: number;
  readonly instance: string;
  /** Of `serve`; LEASE unless said. */
  readonly lease?: Partial<RegistryOptions>;
}

export const NODE = "edge-1";
/** Short, so that the tests are: hung is dead after half a second. */
export const LEASE = { ttlMs: 600, renewMs: 200 };
export const quiet = makeLog("test", { to: { write: () => {} } });

export const echo = contract("core-data", {
  who: get("/who", { input: {}, output: Type.Object({ instance: Type.String() }), callers: ["*"] }),
});

function identityOf({ service, caPem, certPem, keyPem }: Papers): TlsIdentity {
  const identity = new TlsIdentity({ node: NODE, service, caPem });
  identity.update({ certPem, keyPem });
  return identity;
}

export const instanceOf = (service: string, instance: string, port = 7000): Instance => ({
  service,
  instance,
  host: "127.0.0.1",
  port,
  pid: process.pid,
  version: "0",
  startedAtMs: Date.now(),
  state: "passing",
  routes: [],
});

/** What a process has of the registry: its table, its resolver, its client. */
export function clientOf(papers: Papers, registryPort: number) {
  const table = new Table();
  const identity = identityOf(papers);
  const resolver = makeResolver({
    table,
    identity,
    fixed: { "core-keeper": { host: "127.0.0.1", port: registryPort } },
  });
  return { table, identity, resolver, registry: connect(registryContract, { resolver }) };
}

/** Makes a registry with a store of its own, which is removed with it. */
export function registryOf(options: Partial<RegistryOptions> = {}) {
  const directory = mkdtempSync(join(tmpdir(), "registry-"));
  const store = openRegistryStore({ path: join(directory, "registry.db"), key: Buffer.alloc(32, 1), log: quiet });
  const own = { clock: systemClock, log: quiet, store, revision: 0, preserveMs: 0, announce: () => undefined, probe };
  const running = makeRegistry({ ...own, ...LEASE, ...options });
  const remove = () => {
    store.close();
    rmSync(directory, { recursive: true });
  };
  return { ...running, store, remove };
}

/** Serves a registry; a port of 0 is any. */
export async function serveRegistry(papers: Papers, port: number, options: Partial<RegistryOptions> = {}) {
  const running = registryOf({ revision: Date.now(), ...options });
  const ticking = setInterval(() => running.tick(), 20);
  const served = await serve({
    contract: registryContract,
    service: running.service,
    listen: { host: "127.0.0.1", port },
    identity: identityOf(papers),
    log: quiet,
    clock: systemClock,
    tracer: new Tracer("core-keeper", systemClock),
  });
  const stop = async () => {
    clearInterval(ticking);
    await served.close();
    running.remove();
  };
  return { port: served.port, stop };
}

/** Serves `echo` and holds a lease for it. */
export async function holdEcho({ papers, registryPort, instance }: Order) {
  const stopping = new AbortController();
  const { registry, identity, table } = clientOf(papers, registryPort);
  const service = { who: async () => ({ instance }) };
  const tracer = new Tracer("core-data", systemClock);
  const served = await serve({
    contract: echo,
    service,
    listen: { host: "127.0.0.1", port: 0 },
    identity,
    instance,
    log: quiet,
    clock: systemClock,
    tracer,
  });
  const lease = holdLease({
    registry,
    table,
    instance: () => instanceOf("core-data", instance, served.port),
    health: () => ({ state: "passing" }),
    log: quiet,
    signal: stopping.signal,
  });
  await lease.held;
  const stop = async () => {
    stopping.abort();
    await served.close();
    identity.close();
  };
  return { lease, port: served.port, stop };
}

/** Issues the papers of a service. */
export async function papersOf(authority: Authority, service: string): Promise<Papers> {
  const name = `spiffe://${NODE}/service/${service}`;
  const { keyPem, csrPem } = await makeKeyAndRequest(name);
  const asked = { dns: ["localhost"], ips: ["127.0.0.1"], lifetimeMs: 3_600_000, client: true, server: true };
  const issued = await authority.issue({ csrPem, name, ...asked });
  return { service, caPem: authority.certPem, certPem: issued.certPem, keyPem };
}

/** Starts a process that holds a lease or serves a registry; the caller ends it. */
export async function startProcess(role: "hold" | "serve", order: Order): Promise<ChildProcess & { port: number }> {
  const child = fork(import.meta.filename, [role], { execArgv: [] });
  child.send(order);
  const [{ port }] = (await once(child, "message")) as [{ port: number }];
  return Object.assign(child, { port });
}

/** Follows a registry as the supervisor would, and waits for what it tells. */
export async function observe(papers: Papers, port: number) {
  const stopping = new AbortController();
  const client = clientOf(papers, port);
  const waiting = new Set<(change: Change) => void>();
  const onChange = (change: Change) => {
    for (const look of waiting) look(change);
  };
  const follow = followTable({ ...client, caller: papers.service, log: quiet, signal: stopping.signal, onChange });
  await follow.first;
  /** Resolves with the moment of the first change that `what` holds for. */
  const told = (what: (change: Change) => boolean) =>
    new Promise<number>((resolve) => {
      const look = (change: Change) => {
        if (!what(change)) return;
        waiting.delete(look);
        resolve(performance.now());
      };
      waiting.add(look);
    });
  const down = (instance: string) => told((c) => c.kind === "down" && c.instances[0]?.instance === instance);
  const stop = () => {
    stopping.abort();
    client.identity.close();
  };
  return { ...client, told, down, stop };
}

if (import.meta.main) {
  process.once("message", (order: Order) => {
    const work =
      process.argv[2] === "hold" ? holdEcho(order) : serveRegistry(order.papers, order.registryPort, order.lease);
    void work.then(({ port }) => process.send?.({ port }));
  });
  process.once("disconnect", () => process.exit());
}
