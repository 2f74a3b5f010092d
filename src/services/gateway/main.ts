/** Wires the gateway: the table of instances, the keys of tokens, the door. */
import type { JSONWebKeySet } from "jose";
import { type Static, Type } from "typebox";
import { makeCall } from "../../kernel/call.ts";
import { fail } from "../../kernel/error.ts";
import { forever } from "../../kernel/forever.ts";
import { IDENTITY_NOT_READY } from "../../kernel/identity/codes.ts";
import { type Context, defineService, field } from "../../kernel/service.ts";
import { identity as identityContract } from "../identity/api.ts";
import { registry as registryContract } from "../registry/api.ts";
import { gateway } from "./api.ts";
import { Balancer } from "./balancer.ts";
import { Budget } from "./body.ts";
import { Connections } from "./connections.ts";
import { Door } from "./door.ts";
import { Instances, UNCONFIRMED_KEPT_MS } from "./instances.ts";
import { Limiter } from "./limiter.ts";
import { Metrics } from "./metrics.ts";
import { pageOf } from "./pages.ts";
import { RouteTable } from "./routes.ts";
import { makeGateway } from "./service.ts";
import { Tokens } from "./tokens.ts";
import { Upstream } from "./upstream.ts";

/** Clients that limits remember at once. */
const CLIENTS_MAX = 16_384;
/** An address may send so many wrong tokens at once, then one every three seconds. */
const WRONG_TOKENS = { requestsPerS: 1 / 3, burst: 20 };
const KEYS_LOOK_MS = 60_000;
const KEYS_TIMEOUT_MS = 3_000;
/** The start waits so long for what the registry says; without it the door opens and answers 503. */
const HEARD_WAIT_MS = 5_000;

const whole = (minimum: number, maximum: number) => Type.Integer({ minimum, maximum });

const config = Type.Object(
  {
    bodyBytesMax: field(whole(1, 67_108_864), { description: "Largest body of a request, in bytes; a larger one is refused with 413. A service's own limit may be lower.", default: 1_048_576, example: 4_194_304 }),
    bodiesBytesMax: field(whole(1_048_576, 4_294_967_296), { description: "Memory for the bodies of all requests under way, in bytes; a request that finds no room is refused with 503.", default: 67_108_864, example: 16_777_216 }),
    headerBytesMax: field(whole(1_024, 15_360), { description: "Most bytes of a request's URL and headers together; more are refused with 431.", default: 14_336, example: 8_192 }),
    headersTimeoutMs: field(whole(100, 600_000), { description: "Milliseconds in which a request's headers must have come; a slower one is refused with 408.", default: 10_000, example: 30_000 }),
    requestTimeoutMs: field(whole(100, 3_600_000), { description: "Milliseconds in which a whole request must have come; a slower one is refused with 408.", default: 60_000, example: 300_000 }),
    keepAliveMs: field(whole(1_000, 3_600_000), { description: "Milliseconds that an idle connection is kept.", default: 65_000, example: 10_000 }),
    connectionsMax: field(whole(1, 100_000), { description: "Open connections of clients; further ones are closed at once.", default: 2_500, example: 500 }),
    connectionsPerAddressMax: field(whole(1, 100_000), { description: "Open connections of one client (an IPv4 address, an IPv6 network of 64 bits); further ones are closed at once.", default: 1_000, example: 50 }),
    requestsRunningMax: field(whole(1, 100_000), { description: "Requests under way at once; further ones are refused with 503.", default: 2_048, example: 256 }),
    addressRequestsPerS: field(whole(1, 1_000_000), { description: "Requests a second that one client may send; more are refused with 429.", default: 2_000, example: 50 }),
    addressBurst: field(whole(1, 1_000_000), { description: "Requests that one client may send at once.", default: 4_000, example: 100 }),
    tokenRequestsPerS: field(whole(1, 1_000_000), { description: "Requests a second that may come with one token; more are refused with 429.", default: 1_000, example: 20 }),
    tokenBurst: field(whole(1, 1_000_000), { description: "Requests that may come at once with one token.", default: 2_000, example: 40 }),
    clockSkewMs: field(whole(0, 300_000), { description: "Milliseconds that a token is taken before it begins and after it has expired: clocks differ.", default: 30_000, example: 5_000 }),
    instanceWaitMs: field(whole(0, 60_000), { description: "Milliseconds that a request waits for a service that is being restarted, before it is answered with 503.", default: 2_000, example: 0 }),
    drainMs: field(whole(0, 8_000), { description: "Milliseconds that running requests have to end when the gateway stops.", default: 5_000, example: 1_000 }),
  },
  { additionalProperties: false },
);
type GatewayContext = Context<Static<typeof config>>;

export const main = defineService({
  contract: gateway,
  config,
  // Whoever registers with routes is behind this door.
  needs: ["*"],
  stateful: false,
  doors: [{ name: "https", port: 8_443, when: "always" }],
  async start(context) {
    const { clock, log, node, version, identity, stopping } = context;
    const listen = context.doors["https"];
    if (!identity) throw fail(IDENTITY_NOT_READY, "the gateway has no certificate: its door needs one, in one process with the others, too");
    if (!listen) throw new Error("the gateway's door 'https' is not open");
    const routes = new RouteTable();
    const instances = new Instances();
    instances.onChange((service, known) => known.length > 0 && routes.set(service, known.flatMap((k) => k.instance.routes)));
    const connections = new Connections({ identity, clock });
    const balancer = new Balancer({ instances, clock, waitMs: context.config.instanceWaitMs, onGone: (endpoint) => connections.retire(endpoint) });
    const metrics = new Metrics();
    const tokens = tokensOf(context);
    const load = { running: 0, draining: false };
    const rules = makeGateway({
      routes, instances, tokens, metrics, startedAtMs: clock.wallMs(), ...limitersOf(context), openConnections: () => door.openConnections,
    });
    const missing = () => (load.draining || stopping.aborted ? "it is stopping" : !instances.heard ? "the registry was not heard yet" : tokens.ready ? undefined : "the keys of tokens are not there yet");
    const gauges = () => ({
      openConnections: door.openConnections, runningRequests: load.running, verdicts: tokens.size,
      upstreams: [...balancer.all()].map((e) => ({ service: e.service, instance: e.instance, ...connections.counts(e) })),
    });
    const door: Door = new Door({
      identity, listen, log, limits: limitsOf(context),
      passage: {
        admit: rules.admit, upstream: new Upstream({ balancer, connections, metrics, clock }), metrics, clock, log, load,
        tracer: context.tracer, bodies: new Budget(context.config.bodiesBytesMax), bodyBytesMax: context.config.bodyBytesMax,
        runningMax: context.config.requestsRunningMax,
        pageOf: (page, visit) => pageOf({ node, version, routes, metrics, gauges, missing }, page, visit),
      },
    });
    const watching = follow(context, instances);
    const refreshing = setInterval(() => void tokens.refresh(), KEYS_LOOK_MS).unref();
    await Promise.all([tokens.refresh(), heard(instances)]);
    const port = await door.listen();
    log.info({ port }, "the door is open");
    return {
      service: rules.service,
      health: () => {
        const reason = missing();
        return reason === undefined ? { state: "passing" } : { state: "warning", reason };
      },
      async stop() {
        clearInterval(refreshing);
        await door.close(context.config.drainMs);
        connections.close();
        await watching;
      },
    };
  },
});

function limitersOf({ config: c, clock }: GatewayContext) {
  const make = (requestsPerS: number, burst: number) => new Limiter({ requestsPerS, burst, keysMax: CLIENTS_MAX, clock });
  return {
    byAddress: make(c.addressRequestsPerS, c.addressBurst),
    byToken: make(c.tokenRequestsPerS, c.tokenBurst),
    wrongTokens: make(WRONG_TOKENS.requestsPerS, WRONG_TOKENS.burst),
  };
}

const limitsOf = ({ config: c }: GatewayContext) => ({
  headerBytesMax: c.headerBytesMax, headersMs: c.headersTimeoutMs, requestMs: c.requestTimeoutMs, keepAliveMs: c.keepAliveMs,
  connectionsMax: c.connectionsMax, connectionsPerAddressMax: c.connectionsPerAddressMax,
});

function tokensOf(context: GatewayContext): Tokens {
  const { node, clock, log, name } = context;
  const identity = context.connect(identityContract);
  return new Tokens({
    node, clock, log, skewMs: context.config.clockSkewMs,
    async keys() {
      const call = makeCall({ caller: name, timeoutMs: KEYS_TIMEOUT_MS });
      try {
        return (await identity.keys({}, call)) as unknown as JSONWebKeySet;
      } finally {
        call.end(false);
      }
    },
  });
}

/** Feeds the table from the registry's stream until the gateway stops, and again whenever the registry was away. */
function follow({ clock, log, name, stopping, connect }: GatewayContext, instances: Instances): Promise<void> {
  const registry = connect(registryContract);
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
