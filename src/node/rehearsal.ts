/**
 * One small house for a moment, over real sockets: V8's cache then holds the functions that every process runs at its start,
 * not only those that run while its code is loaded. Nothing of it is kept.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { join as joinPath } from "node:path";
import { connect } from "../kernel/connect.ts";
import { makeCall } from "../kernel/call.ts";
import { systemClock } from "../kernel/clock.ts";
import type { TlsIdentity } from "../kernel/identity/tls.ts";
import { type Log, makeLog } from "../kernel/log.ts";
import { type Served, serve } from "../kernel/serve.ts";
import { Tracer } from "../kernel/trace.ts";
import { type Identity, identity as identityContract } from "../services/identity/api.ts";
import { type Registry, registry as registryContract } from "../services/registry/api.ts";
import { holdLease, makeResolver, Table } from "../services/registry/client.ts";
import { join } from "./join.ts";
import { type LocalHouse, makeLocalHouse } from "./local.ts";
import { loadMain, type ServiceTable } from "./manifest.ts";

const NODE = "rehearsal";
const SELF = "core-keeper";
const INSTANCE = "rehearsed";
const LOOPBACK = { host: "127.0.0.1", port: 0 };
const CALLS = 20;
const CALL_TIMEOUT_MS = 5_000;
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

async function play(table: ServiceTable, house: LocalHouse, signal: AbortSignal, log: Log): Promise<void> {
  const shared = { log, clock: systemClock, tracer: new Tracer(NODE, systemClock) };
  const identity = await house.start(await loadMain(table, "identity"));
  const registry = await house.start(await loadMain(table, SELF));
  const own = identity.started.identity;
  const door = { ...shared, listen: LOOPBACK };
  const servedIdentity = await serve({
    ...door,
    contract: identityContract,
    service: identity.service as unknown as Identity,
    ...(own ? { identity: own } : {}),
  });
  const { caPem } = await house.connect(identityContract, SELF).authority({}, call());
  const newSecret = async (): Promise<string> => {
    const secret = randomBytes(16).toString("hex");
    const secretSha256 = createHash("sha256").update(secret).digest("hex");
    house.tell("identity", "expect-join", { service: SELF, instance: INSTANCE, secretSha256 });
    return secret;
  };
  const who = { node: NODE, service: SELF, instance: INSTANCE, clock: systemClock };
  const tls = await join({ ...who, caPem, identity: servedIdentity, newSecret, log, signal });
  const served = await serve({
    ...door,
    contract: registryContract,
    service: registry.service as unknown as Registry,
    identity: tls,
  });
  await playLease({ tls, log, signal, at: served });
  tls.close();
  await Promise.all([served.close(), servedIdentity.close()]);
}

async function playLease(options: { tls: TlsIdentity; log: Log; signal: AbortSignal; at: Served }): Promise<void> {
  const { tls, log, signal, at } = options;
  const resolver = makeResolver({ table: new Table(), identity: tls, fixed: { [SELF]: at } });
  const registry = connect(registryContract, { resolver });
  const known = { service: SELF, instance: INSTANCE, host: at.host, port: at.port, pid: process.pid, version: "0" };
  const lease = holdLease({
    registry,
    log,
    signal,
    instance: () => ({ ...known, startedAtMs: 0, state: "passing", routes: [] }),
    health: () => ({ state: "passing" }),
  });
  await lease.held;
  for (let n = 0; n < CALLS; n++) await registry.instances({}, call());
  await lease.renew();
  await lease.release();
}

const call = () => makeCall({ caller: SELF, timeoutMs: CALL_TIMEOUT_MS });
