/** Certificates while they change: real services over real sockets, with identity as it runs and the supervisor's pipe in between. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { test } from "node:test";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { Type } from "typebox";
import { eventually, temporary } from "../../../test/houses/edge.ts";
import { makeCall } from "../../kernel/call.ts";
import { systemClock } from "../../kernel/clock.ts";
import { connect } from "../../kernel/connect.ts";
import { contract, get, type Service, stream } from "../../kernel/contract.ts";
import type { TlsIdentity } from "../../kernel/identity/tls.ts";
import { certificatesIn, type Trust } from "../../kernel/identity/trust.ts";
import { makeLog } from "../../kernel/log.ts";
import { serve } from "../../kernel/serve.ts";
import { Tracer } from "../../kernel/trace.ts";
import { join } from "../../node/join.ts";
import { makeLocalHouse } from "../../node/local.ts";
import { identity as identityContract } from "./api.ts";
import { main } from "./main.ts";

const NODE = "edge1";
const LOOPBACK = { host: "127.0.0.1", port: 0 };
const log = makeLog("test", { to: { write: () => undefined } });
const tracer = new Tracer("test", systemClock);
const callAs = (caller: string) => makeCall({ caller, timeoutMs: 5_000 });

const pump = contract("pump", {
  say: get("/say", { input: {}, output: Type.Object({ said: Type.String() }), callers: ["bus"] }),
  flow: stream("/flow", { input: {}, output: Type.Object({ n: Type.Integer() }), callers: ["bus"] }),
});
const pumping: Service<typeof pump> = {
  say: async (_, call) => ({ said: call.caller }),
  async *flow(_, call) {
    for (let n = 0; !call.signal.aborted; n++) {
      yield { n };
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  },
};

/** Identity on a socket, and what the supervisor does for it: secrets for who joins, and its news for everybody. */
async function start(t: { after(work: () => Promise<void> | void): void }, lifetimeMs: number, directory?: string) {
  const everybody = new Set<TlsIdentity>();
  const startedAnew: string[] = [];
  let trust: Trust | undefined;
  let expect: (message: Readonly<Record<string, unknown>>) => void = () => undefined;
  const house = makeLocalHouse({
    node: NODE,
    directory: directory ?? temporary(t),
    version: "0",
    log,
    dataKey: async () => Buffer.alloc(32, 3),
    lineOf: () => ({
      on: (_, handle) => (expect = handle),
      send(kind, message) {
        if (kind === "revoked") startedAnew.push(message["service"] as string);
        if (kind !== "authority") return;
        trust = message as unknown as Trust;
        for (const tls of everybody) tls.trust(trust);
      },
    }),
  });
  const { service, started, audit } = await house.start(main, { certificateLifetimeMs: lifetimeMs });
  const ended = new AbortController();
  const served = await serve({
    contract: identityContract,
    service,
    listen: LOOPBACK,
    identity: started.identity!,
    log,
    clock: systemClock,
    tracer,
  });
  t.after(async () => {
    ended.abort();
    for (const tls of everybody) tls.close();
    await served.close();
    await house.stop();
  });
  return {
    admin: house.connect(identityContract, "gateway"),
    audit,
    startedAnew,
    stop: () => ended.abort(),
    bundle: () => trust!.caPem,
    /** A service joins, as its process does. */
    async join(name: string): Promise<TlsIdentity> {
      const instance = `${name}-${randomBytes(3).toString("hex")}`;
      const tls = await join({
        node: NODE,
        service: name,
        instance,
        caPem: trust!.caPem,
        identity: { host: served.host, port: served.port },
        async newSecret() {
          const secret = randomBytes(16).toString("hex");
          expect({ service: name, instance, secretSha256: createHash("sha256").update(secret).digest("hex") });
          return secret;
        },
        clock: systemClock,
        log,
        signal: ended.signal,
      });
      everybody.add(tls);
      return tls;
    },
    forget: (tls: TlsIdentity) => everybody.delete(tls),
  };
}

async function servePump(t: { after(work: () => Promise<void> | void): void }, tls: TlsIdentity) {
  const served = await serve({
    contract: pump,
    service: pumping,
    listen: LOOPBACK,
    identity: tls,
    log,
    clock: systemClock,
    tracer,
  });
  t.after(() => served.close());
  return served.port;
}

const clientOf = (tls: TlsIdentity, port: number) =>
  connect(pump, {
    resolver: {
      pick: () => ({ host: "127.0.0.1", port, agent: tls.agent("pump"), secure: true }),
      failed: () => undefined,
    },
  });

/** Asks on and on until told to stop; answers how often, and what failed. */
function load(client: Service<typeof pump>) {
  const failed: unknown[] = [];
  let asked = 0;
  const over = new AbortController();
  const runs = Promise.all(
    Array.from({ length: 4 }, async () => {
      while (!over.signal.aborted) {
        asked++;
        await client.say({}, callAs("bus")).catch((error: unknown) => failed.push(error));
        await new Promise(setImmediate);
      }
    }),
  );
  return async () => {
    over.abort();
    await runs;
    return { asked, failed };
  };
}

/** The serial that a server shows to a new connection, whatever it takes of the client. */
function shown(
  port: number,
  tls: TlsIdentity,
  options: object = {},
): Promise<{ serial: string; protocol: string | null }> {
  return new Promise((resolve, reject) => {
    const socket: TLSSocket = connectTls({ host: "127.0.0.1", port, ...tls.clientOptions("pump"), ...options }, () => {
      resolve({ serial: socket.getPeerX509Certificate()!.serialNumber, protocol: socket.getProtocol() });
      socket.destroy();
    });
    socket.once("error", reject);
  });
}

test("certificates change every second under load and no request fails; TLS 1.2 is refused after it, too", async (t) => {
  const house = await start(t, 3_000);
  const [server, client] = [await house.join("pump"), await house.join("bus")];
  const port = await servePump(t, server);
  const stop = load(clientOf(client, port));
  const serials = new Set<string>();
  const own = new Set<string>();
  await eventually(async () => {
    serials.add((await shown(port, client)).serial);
    own.add(client.certificate!.serial);
    return serials.size >= 5 && own.size >= 4;
  }, 20_000);
  const { asked, failed } = await stop();
  assert.deepEqual(failed, []);
  assert.ok(asked > 100, `${asked} requests`);
  assert.equal((await shown(port, client)).protocol, "TLSv1.3");
  const old = { secureContext: undefined, minVersion: "TLSv1.2", maxVersion: "TLSv1.2", ca: house.bundle() };
  await assert.rejects(shown(port, client, old), /protocol version|handshake/i);
});

test("a revoked service is cut off from open connections, streams and new ones in well under a second", async (t) => {
  const house = await start(t, 3_600_000);
  const [server, client, thief] = [await house.join("pump"), await house.join("bus"), await house.join("bus")];
  // Who stole a certificate is not told anything.
  house.forget(thief);
  const port = await servePump(t, server);
  await clientOf(thief, port).say({}, callAs("bus"));
  const open = connectTls({ host: "127.0.0.1", port, ...thief.clientOptions("pump") });
  await once(open, "secureConnect");
  const flowing = (async () => {
    for await (const _ of clientOf(thief, port).flow({}, callAs("bus")));
  })();
  flowing.catch(() => undefined);
  open.on("error", () => undefined);
  const before = client.certificate!.serial;
  const startMs = performance.now();
  const closed = Promise.all([once(open, "close"), assert.rejects(flowing)]);
  assert.deepEqual(await house.admin.revoke({ body: { what: "bus" } }, callAs("gateway")), { service: "bus" });
  await closed;
  const ms = performance.now() - startMs;
  assert.ok(ms < 1_000, `${ms} ms`);
  await assert.rejects(clientOf(thief, port).say({}, callAs("bus")));
  assert.deepEqual(house.startedAnew, ["bus"], "the supervisor starts it anew");
  // What came of the supervisor has a new certificate, which is not revoked.
  await eventually(() => client.certificate!.serial !== before);
  assert.equal((await clientOf(client, port).say({}, callAs("bus"))).said, "bus");
  const issued = (await house.admin.certificates({}, callAs("gateway"))).issued.filter(({ name }) => name === "bus");
  assert.deepEqual(
    issued.map(({ revoked }) => revoked),
    [false, true, true],
  );
  const note = house.audit.take().find(({ action }) => action === "certificate.revoke");
  assert.equal(note?.outcome, "done");
});

test("one certificate is revoked by its serial number, a client refuses a server that has it, and a restart forgets nothing", async (t) => {
  const directory = temporary(t);
  const house = await start(t, 3_600_000, directory);
  const [server, client, other] = [await house.join("pump"), await house.join("bus"), await house.join("bus")];
  const port = await servePump(t, server);
  await clientOf(client, port).say({}, callAs("bus"));
  house.forget(server);
  house.forget(other);
  await house.admin.revoke({ body: { what: server.certificate!.serial } }, callAs("gateway"));
  await assert.rejects(clientOf(client, port).say({}, callAs("bus")), (error: Error) =>
    /was revoked/.test(`${error.message} ${String((error.cause as Error | undefined)?.message)}`),
  );
  await assert.rejects(house.admin.revoke({ body: { what: "no such/thing" } }, callAs("gateway")), {
    code: "IDENTITY_REVOKE_UNKNOWN",
  });
  house.stop();
  const again = await start(t, 3_600_000, directory);
  const { revoked } = await again.admin.certificates({}, callAs("gateway"));
  assert.deepEqual(
    revoked.map(({ serial }) => serial),
    [server.certificate!.serial],
  );
});

test("the authority is replaced with an overlap under load and no request fails; then the old one is believed by nobody", async (t) => {
  const house = await start(t, 3_000);
  const [server, client] = [await house.join("pump"), await house.join("bus")];
  const port = await servePump(t, server);
  const [before] = certificatesIn(house.bundle());
  const stop = load(clientOf(client, port));
  await house.admin.rotateAuthority({ body: { overlapMs: 1_500 } }, callAs("gateway"));
  assert.deepEqual(
    (await house.admin.certificates({}, callAs("gateway"))).authorities.map(({ state }) => state),
    ["current", "next"],
  );
  assert.equal(certificatesIn(house.bundle()).length, 2);
  await assert.rejects(house.admin.rotateAuthority({ body: { overlapMs: 0 } }, callAs("gateway")), {
    code: "IDENTITY_ROTATION_RUNNING",
  });
  // Who holds the next authority alone (a person who fetched it) sees the switch come.
  const next = certificatesIn(house.bundle())[1];
  await eventually(
    async () => certificatesIn(house.bundle())[0] === next && (await shown(port, client).then(() => true)),
    10_000,
  );
  await eventually(() => server.isCurrent && client.isCurrent, 10_000);
  await eventually(() => certificatesIn(house.bundle()).length === 1, 20_000);
  const { asked, failed } = await stop();
  assert.deepEqual(failed, []);
  assert.ok(asked > 100);
  assert.notEqual(certificatesIn(house.bundle())[0], before);
  const old = { secureContext: undefined, ca: before };
  await assert.rejects(shown(port, client, old), "the old authority says nothing about who is there now");
});
