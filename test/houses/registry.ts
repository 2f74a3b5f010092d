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
import { type Clock, systemClock } from "../../src/kernel/clock.ts";
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
import type { Cable } from "./cable.ts";

export interface Papers {
  readonly service: string;
  readonly caPem: string;
  readonly certPem: string;
  readonly keyPem: string;
}

export interface Order {
  readonly papers: Papers;
  readonly registryPort: number;
  /** This machine's unless said; of `serve`, where it listens. */
  readonly registryHost?: string;
  readonly instance: string;
  /** Of `serve`; LEASE unless said. */
  readonly lease?: Partial<RegistryOptions>;
}

export const NODE = "edge-1";
const LOOPBACK = "127.0.0.1";
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
  host: LOOPBACK,
  port,
  pid: process.pid,
  version: "0",
  startedAtMs: Date.now(),
  state: "passing",
  routes: [],
});

/** What a process has of the registry: its table, its resolver, its client. */
export function clientOf(papers: Papers, registryPort: number, host = LOOPBACK) {
  const table = new Table();
  const identity = identityOf(papers);
  const resolver = makeResolver({
    table,
    identity,
    fixed: { "core-keeper": { host, port: registryPort } },
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

/** A wall clock that a test steps; the monotonic one is the machine's. */
export class SteppedClock implements Clock {
  stepMs = 0;
  monotonicMs = (): number => systemClock.monotonicMs();
  wallMs = (): number => systemClock.wallMs() + this.stepMs;
  wallNs = (): bigint => systemClock.wallNs() + BigInt(this.stepMs) * 1_000_000n;
}

export interface Serving {
  readonly papers: Papers;
  /** 0: any. */
  readonly port: number;
  /** Where it listens: on loopback unless said. */
  readonly host?: string | undefined;
  readonly clock?: Clock;
  readonly options?: Partial<RegistryOptions> | undefined;
}

/** Serves a registry. */
export async function serveRegistry({ papers, port, host = LOOPBACK, clock = systemClock, options }: Serving) {
  const running = registryOf({ revision: Date.now(), clock, ...options });
  const ticking = setInterval(() => running.tick(), 20);
  const served = await serve({
    contract: registryContract,
    service: running.service,
    listen: { host, port },
    identity: identityOf(papers),
    log: quiet,
    clock,
    tracer: new Tracer("core-keeper", clock),
  });
  const stop = async () => {
    clearInterval(ticking);
    await served.close();
    running.remove();
  };
  return { port: served.port, stop };
}

/** Serves `echo` and holds a lease for it. */
export async function holdEcho({ papers, registryPort, registryHost, instance }: Order) {
  const stopping = new AbortController();
  const { registry, identity, table } = clientOf(papers, registryPort, registryHost);
  const service = { who: async () => ({ instance }) };
  const tracer = new Tracer("core-data", systemClock);
  const served = await serve({
    contract: echo,
    service,
    listen: { host: LOOPBACK, port: 0 },
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

/** Starts a process that holds a lease or serves a registry, at the end of a cable where there is one; the caller ends it. */
export async function startProcess(
  role: "hold" | "serve",
  order: Order,
  cable?: Pick<Cable, "within">,
): Promise<ChildProcess & { port: number }> {
  const [execPath, ...execArgv] = [...(cable?.within ?? []), process.execPath];
  const child = fork(import.meta.filename, [role], {
    execPath,
    execArgv: [...execArgv, "--no-function-context-cells"],
  });
  child.send(order);
  const [{ port }] = (await once(child, "message")) as [{ port: number }];
  return Object.assign(child, { port });
}

/** Follows a registry as the supervisor would, and waits for what it tells. */
export async function observe(papers: Papers, port: number, host?: string, heard?: (change: Change) => void) {
  const stopping = new AbortController();
  const client = clientOf(papers, port, host);
  const waiting = new Set<(change: Change) => void>();
  const onChange = (change: Change) => {
    heard?.(change);
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
    const { papers, registryPort, registryHost: host, lease: options } = order;
    const clock = new SteppedClock();
    process.on("message", ({ stepMs }: { stepMs: number }) => (clock.stepMs = stepMs));
    const work =
      process.argv[2] === "hold"
        ? holdEcho(order)
        : serveRegistry({ papers, port: registryPort, host, clock, options });
    void work.then(({ port }) => process.send?.({ port }));
  });
  process.once("disconnect", () => process.exit());
}
