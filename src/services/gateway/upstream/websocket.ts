/** The last step of a WebSocket's route: a handshake with the upstream, then frames pass as they are, both ways. */
import type { Socket } from "node:net";
import { traceparent } from "../../../kernel/call.ts";
import type { Clock } from "../../../kernel/clock.ts";
import { HEADER } from "../../../kernel/wire.ts";
import type { Handler, Visit } from "../visit.ts";
import type { WebSocketSettings } from "../websocket.api.ts";
import type { Balancer } from "./balancer.ts";
import type { Connections } from "./connections.ts";
import type { Endpoint } from "./endpoint.ts";
import { readKey, readSwitch } from "./handshake.ts";

export interface WebSocketOptions {
  readonly service: string;
  readonly settings: WebSocketSettings;
  readonly balancer: Balancer;
  readonly connections: Connections;
  readonly clock: Clock;
  readonly inside: boolean;
  readonly pathOf: (visit: Visit) => string;
}

/** Makes the handler; GATEWAY_UPGRADE_REQUIRED, GATEWAY_ORIGIN_REFUSED, UNAVAILABLE, GATEWAY_UPSTREAM_FAILED. */
export const websocket =
  (options: WebSocketOptions): Handler =>
  async (visit) => {
    const { settings, balancer, connections, clock, service } = options;
    const key = readKey(visit, settings);
    const ticket = visit.ticket!;
    const pick = { ticket, key: visit.client, sinceMs: clock.monotonicMs() };
    const endpoint = await balancer.group(service).pick(new Set(), pick);
    const socket = await ticket.wait(connections.dial(endpoint));
    try {
      socket.write(headOf(options, visit, endpoint), "latin1");
      const { headers, rest } = await ticket.wait(readSwitch(socket, "websocket", key));
      endpoint.running++;
      return {
        status: 101,
        headers: ["Upgrade", "websocket", "Connection", "Upgrade", ...headers],
        body: undefined,
        done: () => void socket.destroy(),
        switched: (client) => {
          ticket.stop();
          socket.once("close", () => endpoint.running--);
          join(client.socket, client.rest, socket, rest, settings.idleMs);
        },
      };
    } catch (error) {
      socket.destroy();
      throw error;
    }
  };

/** The client's own Sec-WebSocket headers go on with the others that pass. */
function headOf({ inside, pathOf }: WebSocketOptions, visit: Visit, { service, instance }: Endpoint): string {
  const { host, verdict, address, requestId, passed } = visit;
  const ours = inside
    ? `${HEADER.instance}: ${instance}\r\n${verdict ? `${HEADER.subject}: ${verdict.header}\r\n` : ""}`
    : "";
  return (
    `GET ${pathOf(visit)} HTTP/1.1\r\nhost: ${inside ? service : instance}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n` +
    `${HEADER.traceparent}: ${traceparent(visit)}\r\n${HEADER.correlationId}: ${requestId}\r\n${ours}` +
    `x-forwarded-for: ${address}\r\nx-forwarded-proto: https\r\nx-forwarded-host: ${host}\r\n${passed}\r\n`
  );
}

/** Passes bytes both ways at the pace of the slower side; the end of one side is the other's, silence is the end of both. */
function join(client: Socket, head: Buffer, upstream: Socket, rest: Buffer, idleMs: number): void {
  if (rest.length > 0) client.write(rest);
  if (head.length > 0) upstream.write(head);
  const idle = setTimeout(() => {
    client.destroy();
    upstream.destroy();
  }, idleMs);
  const pass = (from: Socket, to: Socket) => {
    from.on("data", () => idle.refresh());
    from.on("error", () => to.destroy());
    from.on("close", () => {
      clearTimeout(idle);
      to.destroySoon();
    });
    from.pipe(to);
  };
  pass(client, upstream);
  pass(upstream, client);
}
