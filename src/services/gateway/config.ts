/** The gateway's config: how much, how often, how long. */
import { type Static, Type } from "typebox";
import { field } from "../../kernel/service.ts";
import { accessConfig } from "./access/config.ts";

const whole = (minimum: number, maximum: number) => Type.Integer({ minimum, maximum });

export const config = Type.Object(
  {
    routesFile: field(Type.String({ maxLength: 4_096 }), {
      description:
        "The routes file (docs/gateway.md), read again whenever it changes; empty: routes.yaml in the node's state directory, where there is one.",
      default: "",
      example: "/etc/holdfast/routes.yaml",
    }),
    bodyBytesMax: field(whole(1, 67_108_864), {
      description:
        "Largest body of a request, in bytes; a larger one is refused with 413. A service's own limit may be lower.",
      default: 1_048_576,
      example: 4_194_304,
    }),
    bodiesBytesMax: field(whole(1_048_576, 4_294_967_296), {
      description:
        "Memory for the bodies of all requests under way, in bytes; a request that finds no room is refused with 503.",
      default: 67_108_864,
      example: 16_777_216,
    }),
    headerBytesMax: field(whole(1_024, 15_360), {
      description: "Most bytes of a request's URL and headers together; more are refused with 431.",
      default: 14_336,
      example: 8_192,
    }),
    headersTimeoutMs: field(whole(100, 600_000), {
      description: "Milliseconds in which a request's headers must have come; a slower one is refused with 408.",
      default: 10_000,
      example: 30_000,
    }),
    requestTimeoutMs: field(whole(100, 3_600_000), {
      description: "Milliseconds in which a whole request must have come; a slower one is refused with 408.",
      default: 60_000,
      example: 300_000,
    }),
    keepAliveMs: field(whole(1_000, 3_600_000), {
      description: "Milliseconds that an idle connection is kept.",
      default: 65_000,
      example: 10_000,
    }),
    stallTimeoutMs: field(whole(100, 600_000), {
      description: "Milliseconds in which a client may take nothing of its answer; a slower reader is cut off.",
      default: 30_000,
      example: 10_000,
    }),
    connectionsMax: field(whole(1, 100_000), {
      description: "Open connections of clients; further ones are closed at once.",
      default: 2_500,
      example: 500,
    }),
    connectionsPerAddressMax: field(whole(1, 100_000), {
      description:
        "Open connections of one client (an IPv4 address, an IPv6 network of 64 bits); further ones are closed at once.",
      default: 1_000,
      example: 50,
    }),
    requestsRunningMax: field(whole(1, 100_000), {
      description:
        "Requests under way at once; as many more wait for a second at the most, further ones are refused with 503.",
      default: 2_048,
      example: 256,
    }),
    addressRequestsPerS: field(whole(1, 1_000_000), {
      description: "Requests a second that one client may send; more are refused with 429.",
      default: 2_000,
      example: 50,
    }),
    addressBurst: field(whole(1, 1_000_000), {
      description: "Requests that one client may send at once.",
      default: 4_000,
      example: 100,
    }),
    tokenRequestsPerS: field(whole(1, 1_000_000), {
      description: "Requests a second that may come with one token; more are refused with 429.",
      default: 1_000,
      example: 20,
    }),
    tokenBurst: field(whole(1, 1_000_000), {
      description: "Requests that may come at once with one token.",
      default: 2_000,
      example: 40,
    }),
    clockSkewMs: field(whole(0, 300_000), {
      description: "Milliseconds that a token is taken before it begins and after it has expired: clocks differ.",
      default: 30_000,
      example: 5_000,
    }),
    ...accessConfig,
    cacheBytesMax: field(whole(0, 4_294_967_296), {
      description:
        "Memory for kept answers of routes that have a cache, in bytes; at the limit those longest unused go.",
      default: 33_554_432,
      example: 134_217_728,
    }),
    instanceWaitMs: field(whole(0, 60_000), {
      description:
        "Milliseconds that a request waits for a service that is being restarted, before it is answered with 503.",
      default: 2_000,
      example: 0,
    }),
    drainMs: field(whole(0, 8_000), {
      description: "Milliseconds that running requests have to end when the gateway stops.",
      default: 5_000,
      example: 1_000,
    }),
  },
  { additionalProperties: false },
);
export type GatewayConfig = Static<typeof config>;

/** What a connection of the door may take, and for how long. */
export const limitsOf = (c: GatewayConfig) => ({
  headerBytesMax: c.headerBytesMax,
  headersMs: c.headersTimeoutMs,
  requestMs: c.requestTimeoutMs,
  keepAliveMs: c.keepAliveMs,
  stallMs: c.stallTimeoutMs,
  connectionsMax: c.connectionsMax,
  connectionsPerAddressMax: c.connectionsPerAddressMax,
});
