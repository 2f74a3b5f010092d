/**
 * What the gateway's tests stand on: a real gateway with a real identity and registry around it, and a service of a small
 * contract behind it, over TLS. Run as a program it is that service in a process of its own, to be killed.
 */
import { type ChildProcess, fork } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { setTimeout as sleep } from "node:timers/promises";
import { Type } from "typebox";
import { type Call, makeCall } from "../../src/kernel/call.ts";
import { type Clock, systemClock } from "../../src/kernel/clock.ts";
import { connect } from "../../src/kernel/connect.ts";
import { type Contract, contract, get, post, put, routesOf, type Service } from "../../src/kernel/contract.ts";
import { code, fail } from "../../src/kernel/error.ts";
import { makeKeyAndRequest } from "../../src/kernel/identity/request.ts";
import { TlsIdentity } from "../../src/kernel/identity/tls.ts";
import { type Log, makeLog } from "../../src/kernel/log.ts";
import { serve } from "../../src/kernel/serve.ts";
import type { Upgrades } from "../../src/kernel/serve-upgrade.ts";
import { Tracer } from "../../src/kernel/trace.ts";
import { listenTcp, listenUdp } from "../../src/node/confine/listen.ts";
import { makeLocalHouse } from "../../src/node/local.ts";
import { bus } from "../../src/services/bus/api.ts";
import { main as busMain } from "../../src/services/bus/main.ts";
import { identity as identityContract, type Role } from "../../src/services/identity/api.ts";
import { main as identityMain } from "../../src/services/identity/main.ts";
import { registry as registryContract } from "../../src/services/registry/api.ts";
import { holdLease, makeResolver, Table } from "../../src/services/registry/client.ts";
import { main as registryMain } from "../../src/services/registry/main.ts";
import { ROUTES_MESSAGE } from "../../src/services/gateway/routes.api.ts";
import { main as gatewayMain } from "../../src/services/gateway/main.ts";

export const NODE = "edge-1";
const quiet = makeLog("test", { to: { write: () => {} } });
export const ECHO_FAILED = code("ECHO_FAILED", "internal", "Ask for something else.");

/** The service behind the gateway. */
export const echo = contract("echo", {
  say: get("/api/v3/say/:word", {
    input: { word: Type.String(), times: Type.Integer({ minimum: 1, maximum: 1_000_000, default: 1 }) },
    output: Type.Object({
      words: Type.String(),
      subject: Type.String(),
      requestId: Type.String(),
      instance: Type.String(),
      leftMs: Type.Number(),
    }),
    public: { scope: "reading:read", timeoutMs: 2_000 },
  }),
  all: get("/api/v3/say/all", {
    input: {},
    output: Type.Object({ all: Type.Boolean() }),
    public: { scope: "reading:read" },
  }),
  write: post("/api/v3/write", {
    input: { body: Type.Object({ text: Type.String() }) },
    output: Type.Object({ length: Type.Integer(), count: Type.Integer() }),
    status: 201,
    bodyBytesMax: 4_194_304,
    public: { scope: "command:write", timeoutMs: 2_000 },
  }),
  sleep: put("/api/v3/sleep/:ms", {
    input: { ms: Type.Integer() },
    output: Type.Object({}),
    public: { scope: "command:write", timeoutMs: 300 },
  }),
  rest: get("/api/v3/rest/:ms", {
    input: { ms: Type.Integer() },
    output: Type.Object({}),
    public: { scope: "reading:read", timeoutMs: 5_000 },
  }),
  break: get("/api/v3/break/:how", {
    input: { how: Type.String() },
    output: Type.Object({}),
    errors: [ECHO_FAILED],
    public: { scope: "reading:read" },
  }),
  secret: get("/api/v3/secret", { input: {}, output: Type.Object({}), callers: ["core-data"] }),
});

function makeEcho(instance: string): Service<typeof echo> {
  let count = 0;
  return {
    async say({ word, times }, call: Call) {
      const leftMs = call.deadlineMs - performance.now();
      return {
        words: word.repeat(times),
        subject: call.subject?.name ?? "",
        requestId: call.requestId,
        instance,
        leftMs,
      };
    },
    all: async () => ({ all: true }),
    write: async ({ body }) => ({ length: body.text.length, count: ++count }),
    async sleep({ ms }) {
      await sleep(ms);
      return {};
    },
    async rest({ ms }) {
      await sleep(ms);
      return {};
    },
    async break({ how }) {
      if (how === "known") throw fail(ECHO_FAILED, "the echo is broken");
      throw new Error("password of the database is hunter2 at /var/lib/inside");
    },
    secret: async () => ({}),
  };
}

interface Papers {
  readonly caPem: string;
  readonly certPem: string;
  readonly keyPem: string;
}

interface EchoOrder {
  readonly papers: Papers;
  readonly instance: string;
  readonly registryPort: number;
}

/** Serves the echo and registers it, as a process of the node does. */
const startEcho = (order: EchoOrder) => startBehind({ ...order, contract: echo, service: makeEcho(order.instance) });

/** The bus at the door: on a socket of its own, registered, with what it may be switched to. */
export async function busAtDoor(house: GatewayHouse): Promise<() => Promise<void>> {
  const own = tlsOf("bus", await house.papers("bus"));
  house.identities.set("bus", own);
  const { started, service, instance } = await house.house.start(busMain);
  const { registryPort } = house;
  const papers = await house.papers("bus");
  const served = await startBehind({
    papers,
    instance,
    registryPort,
    contract: bus,
    service,
    upgrades: started.upgrades,
  });
  return async () => {
    await served.stop();
    own.close();
  };
}

/** Serves a service and registers it. */
async function startBehind<C extends Contract>(
  order: EchoOrder & { contract: C; service: Service<C>; upgrades?: Upgrades | undefined },
) {
  const { papers, instance, registryPort, contract: offered, service, upgrades } = order;
  const name = offered.name;
  const tls = tlsOf(name, papers);
  const table = new Table();
  const resolver = makeResolver({
    table,
    identity: tls,
    fixed: { "core-keeper": { host: "127.0.0.1", port: registryPort } },
  });
  const shared = { log: quiet, clock: systemClock, tracer: new Tracer(name, systemClock) };
  const served = await serve({
    contract: offered,
    service,
    upgrades,
    listen: { host: "127.0.0.1", port: 0 },
    identity: tls,
    instance,
    ...shared,
  });
  const ended = new AbortController();
  const { port } = served;
  const lease = holdLease({
    registry: connect(registryContract, { resolver }),
    table,
    log: quiet,
    signal: ended.signal,
    health: () => ({ state: "passing" }),
    instance: () => ({
      service: name,
      instance,
      host: "127.0.0.1",
      port,
      pid: process.pid,
      version: "0",
      startedAtMs: Date.now(),
      state: "passing",
      routes: routesOf(offered),
    }),
  });
  await lease.held;
  return {
    instance,
    port,
    async stop() {
      await lease.release();
      ended.abort();
      await served.close();
      tls.close();
    },
  };
}

function tlsOf(service: string, { caPem, certPem, keyPem }: Papers): TlsIdentity {
  const tls = new TlsIdentity({ node: NODE, service, caPem });
  tls.update({ certPem, keyPem });
  return tls;
}

export type Echo = Awaited<ReturnType<typeof startEcho>>;
export type GatewayHouse = Awaited<ReturnType<typeof startGateway>>;

/** Starts the house: identity, registry, gateway. `config` is the gateway's; `parts` are other ones than a test has. */
export async function startGateway(
  config: Parameters<typeof startHouse>[0] = {},
  clock: Clock = systemClock,
  parts: Parts = {},
) {
  const house = await startHouse(config, clock, parts);
  const echoes: { stop(): Promise<void> }[] = [];
  let number = 0;
  const order = async (): Promise<EchoOrder> => ({
    papers: await house.papers("echo"),
    instance: `echo-${++number}`,
    registryPort: house.registryPort,
  });
  return {
    ...house,
    /** Starts an instance of the echo in this process. */
    async echo(): Promise<Echo> {
      const started = await startEcho(await order());
      echoes.push(started);
      return started;
    },
    /** Starts an instance of the echo in a process of its own. */
    async echoProcess(): Promise<ChildProcess & { instance: string }> {
      const sent = await order();
      const child = fork(import.meta.filename, [], { execArgv: [] });
      child.send(sent);
      await once(child, "message");
      echoes.push({ stop: async () => void child.kill("SIGKILL") });
      return Object.assign(child, { instance: sent.instance });
    },
    async stop() {
      await Promise.all(echoes.map((e) => e.stop()));
      await house.stop();
    },
  };
}

interface Parts {
  /** Config of identity. */
  readonly identity?: object;
  readonly main?: typeof gatewayMain;
  readonly log?: Log;
}

async function startHouse(
  config: NonNullable<Parameters<ReturnType<typeof makeLocalHouse>["start"]>[1]>,
  clock: Clock,
  parts: Parts,
) {
  const directory = mkdtempSync(join(tmpdir(), "gateway-"));
  const key = randomBytes(32);
  const lines: Record<string, unknown>[] = [];
  const written = { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) };
  const log = parts.log ?? makeLog("house", { level: "debug", to: written });
  const door = listenTcp({ host: "127.0.0.1", port: 0 });
  const coap = listenUdp({ host: "127.0.0.1", port: 0 });
  const identities = new Map<string, TlsIdentity>();
  const house = makeLocalHouse({
    node: NODE,
    directory,
    version: "1.2.3",
    log,
    clock,
    dataKey: async () => key,
    identityOf: (name) => identities.get(name),
    doors: { gateway: { https: { fd: door.fd }, coap: { fd: coap.fd } } },
  });
  const { service: identity } = await house.start(identityMain, parts.identity ?? {});
  const call = () => makeCall({ caller: "node", timeoutMs: 5_000 });
  const { caPem } = await identity.authority({}, call());
  const papers = async (service: string): Promise<Papers> => {
    const secret = randomBytes(16).toString("hex");
    const instance = `${service}-${secret.slice(0, 8)}`;
    house.tell("identity", "expect-join", {
      service,
      instance,
      secretSha256: createHash("sha256").update(secret).digest("hex"),
    });
    const { keyPem, csrPem } = await makeKeyAndRequest(`spiffe://${NODE}/service/${service}`);
    const { certPem } = await house
      .connect(identityContract, service)
      .join({ body: { service, instance, secret, csrPem } }, call());
    return { caPem, certPem, keyPem };
  };
  const startRegistry = async (port: number) => {
    const { service } = await house.start(registryMain, { ttlMs: 600, renewMs: 200 });
    const shared = { log: quiet, clock: systemClock, tracer: new Tracer("core-keeper", systemClock) };
    return serve({
      contract: registryContract,
      service,
      listen: { host: "127.0.0.1", port },
      identity: tlsOf("core-keeper", await papers("core-keeper")),
      ...shared,
    });
  };
  let registry = await startRegistry(0);
  const registryPort = registry.port;
  const own = tlsOf("gateway", await papers("gateway"));
  identities.set("gateway", own);
  const gateway = await house.start(parts.main ?? gatewayMain, config);
  return {
    house,
    identities,
    directoryOf: (service: string) => join(directory, service),
    port: door.port,
    coapPort: coap.port,
    caPem,
    lines,
    papers,
    registryPort,
    gateway,
    own,
    token: async (role: Role = "admin", lifetimeS = 3600) =>
      (await identity.issueToken({ body: { subject: `a ${role}`, role, lifetimeS } }, call())).token,
    /** Takes a routes file, as the supervisor hands it over. */
    routes: (value: unknown) => house.tell("gateway", ROUTES_MESSAGE, { file: "routes.yaml", value }),
    async restartRegistry() {
      await registry.close();
      await house.services.get("core-keeper")!.stop();
      registry = await startRegistry(registryPort);
    },
    async stop() {
      await registry.close();
      await house.stop();
      own.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** An answer as it came over the wire. */
export interface RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** All that came until the connection ended or fell silent. */
  readonly text: string;
  readonly closed: boolean;
}

/** A connection that sends whatever bytes one likes. */
export class RawClient {
  readonly socket: TLSSocket;
  #text = "";
  #closed = false;
  #wake: () => void = () => undefined;

  private constructor(socket: TLSSocket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#text += chunk.toString("latin1");
      this.#wake();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.#closed = true;
      this.#wake();
    });
  }

  static async open(house: { port: number; caPem: string }): Promise<RawClient> {
    const socket = connectTls({ host: "127.0.0.1", port: house.port, ca: house.caPem, servername: "localhost" });
    await once(socket, "secureConnect");
    return new RawClient(socket);
  }

  get closed(): boolean {
    return this.#closed;
  }

  send(text: string): this {
    this.socket.write(text, "latin1");
    return this;
  }

  /** Waits for one whole answer, or for the end of the connection. */
  async answer(): Promise<RawAnswer> {
    for (;;) {
      const parsed = this.#parse();
      if (parsed) return parsed;
      if (this.#closed) return { status: 0, headers: {}, body: "", text: this.#text, closed: true };
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Waits for the end of the connection and tells all that came. */
  async end(): Promise<string> {
    while (!this.#closed) await new Promise<void>((resolve) => (this.#wake = resolve));
    return this.#text;
  }

  #parse(): RawAnswer | undefined {
    const at = this.#text.indexOf("\r\n\r\n");
    if (at < 0) return undefined;
    const [start = "", ...fields] = this.#text.slice(0, at).split("\r\n");
    const headers = Object.fromEntries(
      fields.map((f) => [f.slice(0, f.indexOf(":")).toLowerCase(), f.slice(f.indexOf(":") + 1).trim()]),
    );
    const status = Number(start.split(" ")[1]);
    const length = status === 204 || status === 100 ? 0 : Number(headers["content-length"] ?? 0);
    const rest = this.#text.slice(at + 4);
    if (rest.length < length) return undefined;
    const text = this.#text;
    this.#text = rest.slice(length);
    return { status, headers, body: rest.slice(0, length), text, closed: this.#closed };
  }
}

if (import.meta.main) {
  process.once("message", (order: EchoOrder) => void startEcho(order).then(() => process.send?.("up")));
  process.once("disconnect", () => process.exit());
}
