/**
 * One small house for a moment, over real sockets: V8's cache then holds the functions that every process runs at its start,
 * not only those that run while its code is loaded. Nothing of it is kept.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { join as joinPath } from "node:path";
import { createHash } from "node:crypto";
import { connect } from "../kernel/connect.ts";
import { systemClock } from "../kernel/clock.ts";
import { makeLog } from "../kernel/log.ts";
import { serve } from "../kernel/serve.ts";
import { Tracer } from "../kernel/trace.ts";
import { identity as identityContract } from "../services/identity/api.ts";
import { registry as registryContract } from "../services/registry/api.ts";
import { holdLease, makeResolver, Table } from "../services/registry/client.ts";
import { join } from "./join.ts";
import { type LocalHouse, makeLocalHouse } from "./local.ts";
import { loadMain, type ServiceTable } from "./manifest.ts";
import { makeCall } from "../kernel/call.ts";

const NODE = "rehearsal";
const CALLS = 20;
/** Written to nowhere. */
const quiet = { write: () => undefined };

/** Plays a start of identity and the registry, a join, a lease and some calls, in a directory of its own below `directory`. */
export async function rehearse(table: ServiceTable, directory: string): Promise<void> {
  const place = mkdtempSync(joinPath(directory, "rehearsal-"));
  const ended = new AbortController();
  const log = makeLog(NODE, { to: quiet });
  const key = randomBytes(32);
  const house = makeLocalHouse({ node: NODE, directory: place, version: "0", log, dataKey: async () => key });
  try {
    await play(table, house, ended.signal, log);
  } finally {
    ended.abort();
    await house.stop();
    rmSync(place, { recursive: true, force: true });
  }
}

async function play(table: ServiceTable, house: LocalHouse, signal: AbortSignal, log: ReturnType<typeof makeLog>): Promise<void> {
  const loopback = { host: "127.0.0.1", port: 0 };
  const shared = { log, clock: systemClock, tracer: new Tracer(NODE, systemClock) };
  const identity = await house.start(await loadMain(table, "identity"));
  const registry = await house.start(await loadMain(table, "core-keeper"));
  const own = identity.started.identity!;
  const servedIdentity = await serve({ ...shared, contract: identityContract, service: identity.service as never, listen: loopback, identity: own });
  const { caPem } = await house.connect(identityContract, "core-keeper").authority({}, makeCall({ caller: "core-keeper", timeoutMs: 5_000 }));
  const newSecret = async (): Promise<string> => {
    const secret = randomBytes(16).toString("hex");
    house.tell("identity", "expect-join", { service: "core-keeper", instance: "first", secretSha256: createHash("sha256").update(secret).digest("hex") });
    return secret;
  };
  const tls = await join({ node: NODE, service: "core-keeper", instance: "first", caPem, identity: servedIdentity, newSecret, clock: systemClock, log, signal });
  const servedRegistry = await serve({ ...shared, contract: registryContract, service: registry.service as never, listen: loopback, identity: tls });
  const resolver = makeResolver({ table: new Table(), identity: tls, fixed: { identity: servedIdentity, "core-keeper": servedRegistry } });
  const client = connect(registryContract, { resolver });
  const { port } = servedRegistry;
  const instance = { service: "core-keeper", instance: "first", host: loopback.host, port, pid: process.pid, version: "0", startedAtMs: 0, state: "passing" as const, routes: [] };
  const lease = holdLease({ registry: client, log, signal, instance: () => instance, health: () => ({ state: "passing" }) });
  await lease.held;
  for (let n = 0; n < CALLS; n++) await client.instances({}, makeCall({ caller: "core-keeper", timeoutMs: 5_000 }));
  await lease.renew();
  await lease.release();
  tls.close();
  await Promise.all([servedRegistry.close(), servedIdentity.close()]);
}
