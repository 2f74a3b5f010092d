/** MQTT over WebSockets (MQTT 3.1.1, 6): the WebSocket ends here, and its bytes go on to the bus, under the person's name. */
import type { Socket } from "node:net";
import { traceparent } from "../../../kernel/call.ts";
import type { Clock } from "../../../kernel/clock.ts";
import { fail } from "../../../kernel/error.ts";
import { HEADER } from "../../../kernel/wire.ts";
import { GATEWAY_REQUEST_REFUSED } from "../api.ts";
import type { Switched } from "../front/exchange.ts";
import type { Balancer } from "../upstream/balancer.ts";
import type { Connections } from "../upstream/connections.ts";
import type { Endpoint } from "../upstream/endpoint.ts";
import { readKey, readSwitch, switching } from "../upstream/handshake.ts";
import type { Handler, Visit } from "../visit.ts";
import { CLOSE } from "../websocket/frames.ts";
import { Session } from "../websocket/session.ts";
import type { WebSocketSettings } from "../websocket.api.ts";

export interface MqttOptions {
  readonly settings: WebSocketSettings;
  readonly balancer: Balancer;
  readonly connections: Connections;
  readonly clock: Clock;
}

const BUS = "bus";
const PROTOCOL = "mqtt";
/** Packets need not fit frames ([MQTT-6.0.0-2]); the bus judges how large they may be, a frame holds the largest. */
const FRAME_BYTES_MAX = 2_097_152;

/** Makes the handler; GATEWAY_UPGRADE_REQUIRED, GATEWAY_ORIGIN_REFUSED, GATEWAY_REQUEST_REFUSED, UNAVAILABLE, GATEWAY_UPSTREAM_FAILED. */
export const mqtt =
  ({ settings, balancer, connections, clock }: MqttOptions): Handler =>
  async (visit) => {
    const key = readKey(visit, settings);
    const offered = (visit.header("sec-websocket-protocol") ?? "").split(",").map((each) => each.trim());
    // [MQTT-6.0.0-3]
    if (!offered.includes(PROTOCOL)) throw fail(GATEWAY_REQUEST_REFUSED, "the WebSocket's subprotocol is not 'mqtt'");
    const ticket = visit.ticket!;
    const pick = { ticket, key: visit.client, sinceMs: clock.monotonicMs() };
    const endpoint = await balancer.group(BUS).pick(new Set(), pick);
    const socket = await ticket.wait(connections.dial(endpoint));
    try {
      socket.write(headOf(visit, endpoint), "latin1");
      const { rest } = await ticket.wait(readSwitch(socket, PROTOCOL));
      // [MQTT-6.0.0-4]
      const reply = switching(key, PROTOCOL, (client) => {
        ticket.stop();
        join({ client, bus: socket, rest, idleMs: settings.idleMs });
      });
      return { ...reply, done: () => void socket.destroy() };
    } catch (error) {
      socket.destroy();
      throw error;
    }
  };

const headOf = (visit: Visit, { instance }: Endpoint): string =>
  `GET /${PROTOCOL} HTTP/1.1\r\nhost: ${BUS}\r\nconnection: Upgrade\r\nupgrade: ${PROTOCOL}\r\n` +
  `${HEADER.traceparent}: ${traceparent(visit)}\r\n${HEADER.instance}: ${instance}\r\n` +
  `${visit.verdict ? `${HEADER.subject}: ${visit.verdict.header}\r\n` : ""}\r\n`;

interface Ends {
  readonly client: Switched;
  readonly bus: Socket;
  /** What has come of the bus behind its handshake. */
  readonly rest: Buffer;
  readonly idleMs: number;
}

/** Passes what the one says to the other, at the pace of the slower; the end of one is the other's. */
function join({ client, bus, rest, idleMs }: Ends): void {
  const session: Session = new Session(
    {
      socket: client.socket,
      messageBytesMax: FRAME_BYTES_MAX,
      idleMs,
      message(data, isText) {
        // [MQTT-6.0.0-1]
        if (isText) session.close(CLOSE.unacceptable, "MQTT goes in binary frames");
        else if (!bus.write(data)) session.pause();
      },
      over: () => bus.destroySoon(),
    },
    client.rest,
  );
  const give = (data: Buffer) => {
    if (session.send(data, false)) return;
    bus.pause();
    void session.drained.then(() => bus.resume());
  };
  if (rest.length > 0) give(rest);
  bus.on("data", give).resume();
  bus.on("drain", () => session.resume());
  bus.on("error", () => bus.destroy());
  bus.once("close", () => session.close(CLOSE.goingAway, "the bus has ended the connection"));
}
