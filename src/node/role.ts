/**
 * The program of one service's process, bundled into one file: what it runs, and a rehearsal of what every start runs, so that
 * V8's cache of that file holds those functions, too.
 */
import { request } from "node:https";
import { makeCall } from "../kernel/call.ts";
import { systemClock } from "../kernel/clock.ts";
import { connect } from "../kernel/connect.ts";
import type { TlsIdentity } from "../kernel/identity/tls.ts";
import { makeLog } from "../kernel/log.ts";
import { serve } from "../kernel/serve.ts";
import type { ServiceMain } from "../kernel/service.ts";
import { Tracer } from "../kernel/trace.ts";
import { registry as registryContract } from "../services/registry/api.ts";
import { holdLease, makeResolver, Table } from "../services/registry/client.ts";
import { runChild, runService } from "./child.ts";
import type { Address } from "./hello.ts";
import { join } from "./join.ts";

/** A house for a moment: identity and the registry, over real sockets. */
export interface Stage {
  readonly node: string;
  readonly caPem: string;
  readonly identity: Address;
  readonly registry: Address;
  /** Announces an instance to identity and answers its secret. */
  newSecret(service: string, instance: string): Promise<string>;
}

export interface Role {
  readonly main: ServiceMain;
  run(): Promise<void>;
  rehearse(stage: Stage): Promise<void>;
}

const INSTANCE = "rehearsed";
const LOOPBACK = { host: "127.0.0.1", port: 0 };
const CALLS = 20;
const CALL_TIMEOUT_MS = 5_000;
/** Written to nowhere. */
const quiet = { write: () => undefined };

/** Makes the program of a service; the bundle names it (bundle.ts). @public */
export const roleOf = (main: ServiceMain): Role => ({
  main,
  run: () => runChild((options) => runService(main, options)),
  rehearse: (stage) => rehearse(main, stage),
});

/** Joins, serves, holds a lease, calls and is called; the service itself does not start. */
async function rehearse({ contract }: ServiceMain, stage: Stage): Promise<void> {
  const { node, caPem } = stage;
  const { name } = contract;
  const ended = new AbortController();
  const log = makeLog(name, { to: quiet });
  const shared = { clock: systemClock, log };
  const newSecret = () => stage.newSecret(name, INSTANCE);
  const who = { node, service: name, instance: INSTANCE, caPem, identity: stage.identity };
  const tls = await join({ ...who, ...shared, newSecret, signal: ended.signal });
  const tracer = new Tracer(name, systemClock);
  const served = await serve({ ...shared, tracer, contract, service: {}, listen: LOOPBACK, identity: tls });
  try {
    for (let n = 0; n < CALLS; n++) await ping(tls, name, served);
    const resolver = makeResolver({ table: new Table(), identity: tls, fixed: { "core-keeper": stage.registry } });
    const registry = connect(registryContract, { resolver });
    const known = { service: name, instance: INSTANCE, host: served.host, port: served.port, pid: process.pid };
    const lease = holdLease({
      registry,
      log,
      signal: ended.signal,
      instance: () => ({ ...known, version: "0", startedAtMs: 0, state: "passing", routes: [] }),
      health: () => ({ state: "passing" }),
    });
    await lease.held;
    for (let n = 0; n < CALLS; n++)
      await registry.instances({}, makeCall({ caller: name, timeoutMs: CALL_TIMEOUT_MS }));
    await lease.renew();
    await lease.release();
  } finally {
    ended.abort();
    tls.close();
    await served.close();
  }
}

/** Asks a service for a sign of life. */
const ping = (tls: TlsIdentity, service: string, { host, port }: Address): Promise<unknown> =>
  new Promise((resolve, reject) => {
    const asked = request({ host, port, path: "/api/v3/ping", agent: tls.agent(service), timeout: CALL_TIMEOUT_MS });
    asked.once("response", (response) => response.resume().once("end", resolve));
    asked.once("error", reject);
    asked.end();
  });
