/**
 * `--compact`: all services in one process, for the smallest machines. They call each other without a wire; those that the
 * gateway or outsiders reach have their sockets and certificates as ever, and each has its place in the registry.
 */
import { systemClock } from "../kernel/clock.ts";
import type { TlsIdentity } from "../kernel/identity/tls.ts";
import type { Trust } from "../kernel/identity/trust.ts";
import { watchProcess } from "../kernel/metrics/watched.ts";
import type { Served } from "../kernel/serve.ts";
import type { Lease } from "../services/registry/client.ts";
import { Table } from "../services/registry/client.ts";
import { identity as identityContract } from "../services/identity/api.ts";
import { registry as registryContract } from "../services/registry/api.ts";
import { trace as traceContract } from "../services/trace/api.ts";
import { type Handle, type ProcessOptions, standBy } from "./child.ts";
import type { Part } from "./hello.ts";
import { Health } from "./health.ts";
import { ServiceLines } from "./inbox.ts";
import { join } from "./join.ts";
import { type LocalHouse, type LocalService, makeLocalHouse } from "./local.ts";
import { loadMain, type ServiceTable } from "./manifest.ts";
import { levelsOf } from "./order.ts";
import { doorsOf, hold, keysOf, type Running, serveAll, stopPart } from "./part.ts";
import { ship } from "./shipping.ts";

interface Up {
  readonly running: Running;
  readonly local: LocalService;
  readonly served: readonly Served[];
  lease: Lease | undefined;
  stopShipping: (() => Promise<void>) | undefined;
}

/** Runs all services of the hello in this process; they are stopped last started first. */
export async function runCompact(table: ServiceTable, options: ProcessOptions): Promise<Handle> {
  const { hello, inbox, line, log } = options;
  const parts = new Map(hello.parts.map((part) => [part.name, part]));
  const identities = new Map<string, TlsIdentity>();
  const lines = new ServiceLines(inbox, line);
  const house = makeLocalHouse({
    node: hello.node,
    version: hello.version,
    log,
    directory: "",
    directoryOf: (name) => parts.get(name)!.directory,
    keysOf: (name) => keysOf(parts.get(name)!, lines.of(name)),
    config: Object.fromEntries(hello.parts.map((part) => [part.name, part.config])),
    doors: Object.fromEntries(hello.parts.map((part) => [part.name, doorsOf(part)])),
    identityOf: (name) => identities.get(name),
    lineOf: (name) => lines.of(name),
    instanceOf: (name) => parts.get(name)!.instance,
    secretsOf: (name) => parts.get(name)!.secrets,
  });
  const mains = await Promise.all(hello.parts.map((part) => loadMain(table, part.name)));
  line.send({ kind: "loaded" });
  await standBy(options);
  const up: Up[] = [];
  const caPem = new Promise<string>((resolve) =>
    inbox.on("authority", (message) => {
      const trust = message as unknown as Trust;
      resolve(trust.caPem);
      for (const tls of identities.values()) tls.trust(trust);
    }),
  );
  for (const level of levelsOf(mains.map((main) => ({ name: main.contract.name, needs: main.needs })))) {
    await Promise.all(
      level.map(async (name) => {
        const part = parts.get(name)!;
        const main = mains.find((m) => m.contract.name === name)!;
        if (!main.ownIdentity) identities.set(name, await joinHere(options, house, part, await caPem));
        up.push(await startHere(options, house, part, main, identities.get(name)));
      }),
    );
  }
  const stop = async (): Promise<void> => {
    for (const { running, local, served, lease, stopShipping } of up.reverse()) {
      await stopPart(running, {
        started: { service: local.started.service, stop: () => local.stop() },
        served,
        lease,
        stopShipping,
      });
    }
  };
  // The gateway is stopped first, and lets its requests end while all others still work.
  return { handOver: async () => undefined, stop };
}

async function joinHere(
  { inbox, line, log, stopping, hello }: ProcessOptions,
  house: LocalHouse,
  part: Part,
  caPem: string,
): Promise<TlsIdentity> {
  return join({
    node: hello.node,
    service: part.name,
    instance: part.instance,
    caPem,
    identity: house.connect(identityContract, part.name),
    ...(part.joinSecret === undefined ? {} : { secret: part.joinSecret }),
    newSecret: () =>
      new Promise((resolve) => {
        inbox.on(`join ${part.name}`, (message) => resolve(message["secret"] as string));
        line.send({ kind: "need-join", service: part.name });
      }),
    clock: systemClock,
    log,
    signal: stopping,
  });
}

async function startHere(
  { hello, line, log, stopping }: ProcessOptions,
  house: LocalHouse,
  part: Part,
  main: Running["main"],
  identity: TlsIdentity | undefined,
): Promise<Up> {
  const local = await house.start(main);
  const running: Running = {
    hello,
    part,
    main,
    log: log.child({ service: part.name }),
    tracer: local.tracer,
    audit: local.audit,
    metrics: local.metrics,
    calls: local.calls,
    health: new Health(systemClock, local.metrics),
    stopping,
  };
  const served = await serveAll(running, local.started, local.started.identity ?? identity);
  running.health.began(local.started);
  const up: Up = { running, local, served, lease: undefined, stopShipping: undefined };
  if (!part.standalone) {
    up.lease = hold(running, { registry: house.connect(registryContract, part.name), table: new Table() });
    // All of them are one process: the first tells of it.
    if (part === hello.parts[0]) watchProcess(local.metrics);
    up.stopShipping = ship({ ...running, trace: house.connect(traceContract, part.name) });
  }
  running.health.onChange = (state, reason) => {
    line.send({ kind: "state", service: part.name, state, ...(reason === undefined ? {} : { reason }) });
    void up.lease?.renew();
  };
  line.send({ kind: "ready", service: part.name });
  return up;
}
