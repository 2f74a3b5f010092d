/**
 * One small house for a moment, over real sockets, in which every service's program rehearses its start: V8's cache then holds
 * the functions that a start runs, not only those that run while its code is loaded. Nothing of it is kept.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { join as joinPath } from "node:path";
import { makeCall } from "../kernel/call.ts";
import { systemClock } from "../kernel/clock.ts";
import { type Log, makeLog } from "../kernel/log.ts";
import { serve } from "../kernel/serve.ts";
import { Tracer } from "../kernel/trace.ts";
import { type Identity, identity as identityContract } from "../services/identity/api.ts";
import { type Registry, registry as registryContract } from "../services/registry/api.ts";
import { join } from "./join.ts";
import { type LocalHouse, makeLocalHouse } from "./local.ts";
import { loadMain, type ServiceTable } from "./manifest.ts";
import type { Role } from "./role.ts";

const NODE = "rehearsal";
const REGISTRY = "core-keeper";
const LOOPBACK = { host: "127.0.0.1", port: 0 };
const CALL_TIMEOUT_MS = 5_000;
/** Written to nowhere. */
const quiet = { write: () => undefined };

/** Plays a start of identity and the registry, in a directory of its own below `directory`, then that of each role. */
export async function rehearse(table: ServiceTable, directory: string, roles: readonly Role[]): Promise<void> {
  const place = mkdtempSync(joinPath(directory, "rehearsal-"));
  const ended = new AbortController();
  const log = makeLog(NODE, { to: quiet });
  const key = randomBytes(32);
  const house = makeLocalHouse({ node: NODE, directory: place, version: "0", log, dataKey: async () => key });
  try {
    await play({ table, house, roles, log, signal: ended.signal });
  } finally {
    ended.abort();
    await house.stop();
    rmSync(place, { recursive: true, force: true });
  }
}

interface Play {
  readonly table: ServiceTable;
  readonly house: LocalHouse;
  readonly roles: readonly Role[];
  readonly log: Log;
  readonly signal: AbortSignal;
}

async function play({ table, house, roles, log, signal }: Play): Promise<void> {
  const identity = await house.start(await loadMain(table, "identity"));
  const registry = await house.start(await loadMain(table, REGISTRY));
  const own = identity.started.identity;
  const door = { log, clock: systemClock, tracer: new Tracer(NODE, systemClock), listen: LOOPBACK };
  const servedIdentity = await serve({
    ...door,
    contract: identityContract,
    service: identity.service as unknown as Identity,
    ...(own ? { identity: own } : {}),
  });
  const asked = makeCall({ caller: REGISTRY, timeoutMs: CALL_TIMEOUT_MS });
  const { caPem } = await house.connect(identityContract, REGISTRY).authority({}, asked);
  const newSecret = async (service: string, instance: string): Promise<string> => {
    const secret = randomBytes(16).toString("hex");
    const secretSha256 = createHash("sha256").update(secret).digest("hex");
    house.tell("identity", "expect-join", { service, instance, secretSha256 });
    return secret;
  };
  const who = { node: NODE, service: REGISTRY, instance: "stage", caPem, identity: servedIdentity };
  const tls = await join({
    ...who,
    newSecret: () => newSecret(REGISTRY, who.instance),
    clock: systemClock,
    log,
    signal,
  });
  const service = registry.service as unknown as Registry;
  const servedRegistry = await serve({ ...door, contract: registryContract, service, identity: tls });
  for (const role of roles)
    await role.rehearse({ node: NODE, caPem, identity: servedIdentity, registry: servedRegistry, newSecret });
  tls.close();
  await Promise.all([servedRegistry.close(), servedIdentity.close()]);
}
