/** Wires the gateway: the table of instances, the keys of tokens, the door. */
import { makeCall } from "../../kernel/call.ts";
import { fail } from "../../kernel/error.ts";
import { forever } from "../../kernel/forever.ts";
import type { TlsIdentity } from "../../kernel/identity/tls.ts";
import type { ListenAt } from "../../kernel/serve.ts";
import { IDENTITY_NOT_READY } from "../../kernel/identity/codes.ts";
import { type Context, defineService, HANDED_OVER, type Started } from "../../kernel/service.ts";
import { identity as identityContract, ROLES } from "../identity/api.ts";
import { bus as busContract } from "../bus/api.ts";
import { registry as registryContract } from "../registry/api.ts";
import { trace as traceContract } from "../trace/api.ts";
import { gateway } from "./api.ts";
import { Balancer } from "./upstream/balancer.ts";
import type { Endpoint } from "./upstream/endpoint.ts";
import { Store } from "./cache/store.ts";
import type { CoapDoor } from "./coap/door.ts";
import { Admission } from "./shape/admission.ts";
import { Budget } from "./shape/body.ts";
import { config, type GatewayConfig, limitsOf } from "./config.ts";
import { Checks } from "./upstream/checks.ts";
import { Connections } from "./upstream/connections.ts";
import { Door } from "./door.ts";
import { Instances, UNCONFIRMED_KEPT_MS } from "./upstream/instances.ts";
import { Limits } from "./shape/limits.ts";
import { Shedder } from "./shape/shedder.ts";
import { Metrics, watchGauges } from "./metrics.ts";
import { Scrape } from "./scrape.ts";
import type { PassageOptions } from "./passage.ts";
import { pagesOf } from "./pages.ts";
import type { Parts } from "./parts.ts";
import { checkRoutes, ROUTES_MESSAGE } from "./routes.api.ts";
import { Router } from "./routes/router.ts";
import { makeGateway } from "./service.ts";
import { type Believed, makeBelieved } from "./access/believed.ts";
import { Siblings } from "./siblings.ts";
import { Upstream } from "./upstream/upstream.ts";

/** Clients that limits remember at once. */
const CLIENTS_MAX = 16_384;
const KEYS_LOOK_MS = 60_000;
const KEYS_TIMEOUT_MS = 3_000;
/** The start waits so long for what the registry says; without it the door opens and answers 503. */
const HEARD_WAIT_MS = 5_000;

type GatewayContext = Context<GatewayConfig>;

export const main = defineService({
  contract: gateway,
  config,
  // Whoever registers with routes is behind this door.
  needs: ["*"],
  stateful: false,
  spreads: true,
  doors: [
    { name: "https", port: 8_443, when: "always" },
    { name: "coap", port: 5_683, when: "configured", protocol: "udp" },
  ],
  start: async (context) => (await openDoor(context)).started,
});

/** Starts the gateway; the door is for who hands it connections that did not come by its socket. */
export async function openDoor(context: GatewayContext): Promise<{ started: Started<typeof gateway>; door: Door }> {
  const { log, stopping, config: c } = context;
  const believed = believedOf(context);
  const { tokens } = believed;
  const instances = new Instances();
  const { door, passage, rules, connections, checks, shedder, missing } = build(context, { ...believed, instances });
  const watching = follow(context, instances);
  const refreshing = setInterval(() => void tokens.refresh(), KEYS_LOOK_MS).unref();
  await Promise.all([tokens.begin(), heard(instances)]);
  const port = await door.listen();
  log.info({ port }, "the door is open");
  const coap = await openCoap(context, { ...passage, handle: rules.handleCoap });
  const started: Started<typeof gateway> = {
    service: rules.service,
    health() {
      const reason = stopping.aborted ? undefined : missing();
      return reason === undefined ? { state: "passing" } : { state: "warning", reason };
    },
    async stop() {
      clearInterval(refreshing);
      coap?.close();
      await door.close(c.drainMs, stopping.reason === HANDED_OVER);
      checks.stop();
      connections.close();
      shedder.stop();
      await watching;
    },
  };
  return { started, door };
}

/** Opens the door for devices, where the config has one. */
async function openCoap({ doors, log }: GatewayContext, options: PassageOptions): Promise<CoapDoor | undefined> {
  const listen = doors["coap"];
  if (!listen) return undefined;
  const { CoapDoor: Opened } = await import("./coap/door.ts");
  const door = new Opened({ ...options, listen });
  log.info({ port: await door.listen() }, "CoAP is open, without encryption: whoever reaches the port may ask");
  return door;
}

interface Known extends Believed {
  readonly instances: Instances;
}

/** Makes what the steps of routes stand on. */
function partsOf(context: GatewayContext, known: Known, metrics: Metrics, limits: Limits): Parts {
  const { access, instances } = known;
  const { clock, log, config: c, directory } = context;
  const { identity } = socketsOf(context);
  const connections = new Connections({ identity, clock });
  const onGone = (endpoint: Endpoint) => connections.retire(endpoint);
  const siblings = siblingsOf(context, identity, known, limits);
  const processes = () => siblings.processes;
  const onBreaker = (upstream: string, open: boolean) => siblings.tell("breakers", { upstream, open });
  const balancer = new Balancer({ instances, clock, waitMs: c.instanceWaitMs, onGone, onBreaker, processes });
  return {
    clock,
    log,
    bus: context.connect(busContract),
    metrics,
    limits,
    byToken: limits.always("token", { requestsPerS: c.tokenRequestsPerS, burst: c.tokenBurst, keysMax: CLIENTS_MAX }),
    processes,
    access,
    bodies: { bytesMax: c.bodyBytesMax, budget: new Budget(c.bodiesBytesMax) },
    shedder: new Shedder(),
    directory,
    balancer,
    store: new Store(c.cacheBytesMax),
    checks: new Checks({ balancer, connections, clock }),
    connections,
    upstream: new Upstream({ balancer, connections, metrics, clock }),
  };
}

/** Puts the parts together, from the door inwards. */
function build(context: GatewayContext, known: Known) {
  const { clock, log, tracer, audit, config: c } = context;
  const { tokens, certificates, login, instances } = known;
  const { identity, listen } = socketsOf(context);
  const metrics = new Metrics(context.metrics);
  const limits = new Limits(clock);
  const perAddress = { requestsPerS: c.addressRequestsPerS, burst: c.addressBurst, keysMax: CLIENTS_MAX };
  const byAddress = limits.always("address", perAddress);
  const parts = partsOf(context, known, metrics, limits);
  const { balancer, connections } = parts;
  const router = new Router({ parts, instances, log });
  followRoutes(context, router);
  const load = { running: 0, draining: false };
  const openConnections = () => door.openConnections;
  const missing = () => missingOf(context, known);
  watchGauges(context.metrics, () => ({
    openConnections: openConnections(),
    runningRequests: load.running,
    verdicts: tokens.verdicts,
    cacheBytes: parts.store.bytes,
    refusedConnections: door.refusedConnections,
    shed: parts.shedder.shed + admission.refused,
    upstreams: [...balancer.all()].map((e) => ({ ...namesOf(e), ...connections.counts(e) })),
  }));
  const scrape = new Scrape({ ...context, trace: context.connect(traceContract) });
  const est = { identity: context.connect(identityContract), access: known.access, certificates };
  const pages = pagesOf(
    {
      node: context.node,
      version: context.version,
      routes: router.published,
      scrape,
      missing,
      login,
      est,
    },
    parts,
  );
  const startedAtMs = clock.wallMs();
  const rules = makeGateway({ ...known, ...parts, pages, router, byAddress, startedAtMs, openConnections });
  const passage = { handle: rules.handle, metrics, clock, log, tracer, audit, load };
  const clientAuthorities = certificates.asked ? certificates.pems : undefined;
  const admission = new Admission({ clock, load, runningMax: c.requestsRunningMax });
  const door: Door = new Door({
    admission,
    identity,
    listen,
    log,
    limits: limitsOf(c),
    clientAuthorities,
    passage,
  });
  const { checks, shedder } = parts;
  return { door, passage, rules, connections, checks, shedder, missing };
}

const namesOf = ({ service, instance }: Endpoint) => ({ service, instance });

function missingOf({ stopping }: GatewayContext, { tokens, instances }: Known): string | undefined {
  if (stopping.aborted) return "it is stopping";
  if (!instances.heard) return "the registry was not heard yet";
  return tokens.ready ? undefined : "the keys of tokens are not there yet";
}

/** The certificate and the socket, without which there is no door; also where all services share a process. */
function socketsOf({ identity, doors }: GatewayContext): { identity: TlsIdentity; listen: ListenAt } {
  const listen = doors["https"];
  if (!identity) throw fail(IDENTITY_NOT_READY, "the gateway has no certificate, and its door is never without TLS");
  if (!listen) throw new Error("the gateway's door 'https' was not opened for it");
  return { identity, listen };
}

/** What this process learns of clients and upstreams, the door's other ones learn of it. */
function siblingsOf(
  context: GatewayContext,
  identity: TlsIdentity,
  { lockout, sessions, instances }: Known,
  limits: Limits,
) {
  const { instance, name, log } = context;
  const siblings = new Siblings({
    instances,
    instance,
    service: name,
    agent: identity.agent(name),
    connect: (resolver) => context.connect(gateway, { resolver }),
    debts: () => limits.debts(),
    log,
  });
  lockout.onTry = (tried) => siblings.tell("tries", tried);
  if (sessions) sessions.onEnded = (ended) => siblings.tell("ended", ended);
  limits.onCount = (limit, key, remaining) => siblings.count(limit, key, remaining);
  return siblings;
}

function believedOf(context: GatewayContext): Believed {
  const { node, config: c, secrets, clock, log, name } = context;
  const identity = context.connect(identityContract);
  return makeBelieved({
    node,
    config: c,
    secrets,
    key: (purpose) => context.key(purpose),
    ownAuthorities: context.identity?.authorities ?? [],
    ownRoles: ROLES,
    clock,
    log,
    async readOwnKeys() {
      const call = makeCall({ caller: name, timeoutMs: KEYS_TIMEOUT_MS });
      try {
        return await identity.keys({}, call);
      } finally {
        call.end(false);
      }
    },
  });
}

/** Takes the routes file from the supervisor, at the start and whenever it changes; one with a fault changes nothing. */
function followRoutes({ supervisor, log }: GatewayContext, router: Router): void {
  supervisor.on(ROUTES_MESSAGE, ({ file, value }) => {
    try {
      router.load(checkRoutes(value, String(file)), String(file));
    } catch (error) {
      log.error({ err: error }, "the routes file has a fault: the routes that were there go on");
    }
  });
}

/** Feeds the table from the registry's stream until the gateway stops, and again whenever the registry was away. */
function follow(context: GatewayContext, instances: Instances): Promise<void> {
  const { clock, log, name, stopping } = context;
  const registry = context.connect(registryContract);
  return forever({ what: "the registry's stream", clock, log, signal: stopping, baseMs: 50, maxMs: 800 }, async () => {
    const call = makeCall({ caller: name, timeoutMs: Number.POSITIVE_INFINITY, signal: stopping });
    let settling: NodeJS.Timeout | undefined;
    instances.begin();
    try {
      for await (const change of registry.watch({}, call)) {
        settling ??= setTimeout(() => instances.settle(), UNCONFIRMED_KEPT_MS).unref();
        instances.apply(change);
      }
    } finally {
      clearTimeout(settling);
      call.end(true);
    }
  });
}

/** Waits for the first snapshot, but not for ever. */
async function heard(instances: Instances): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, HEARD_WAIT_MS)));
  await Promise.race([instances.firstHeard, late]);
  clearTimeout(timer);
}
