/** Tells whether something answers at an address by one way; no more is asked of it. */
import { connect } from "node:net";

const PROBE_TIMEOUT_MS = 5_000;

/** Connects and hangs up: true where that worked within 5 seconds. Where no port is said it is that of the protocol. */
export function canConnect(url: string, localAddress: string | undefined): Promise<boolean> {
  const { hostname, port, protocol } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, "");
  return new Promise((resolve) => {
    const from = localAddress === undefined ? {} : { localAddress };
    const socket = connect({ host, port: Number(port || PORTS[protocol] || 443), ...from, timeout: PROBE_TIMEOUT_MS });
    const end = (works: boolean) => {
      socket.destroy();
      resolve(works);
    };
    socket.once("connect", () => end(true));
    socket.once("timeout", () => end(false));
    socket.once("error", () => end(false));
  });
}

const PORTS: Readonly<Record<string, number>> = {
  "http:": 80,
  "mqtt:": 1883,
  "mqtts:": 8883,
  "nats:": 4222,
  "tls:": 4222,
};
