/** Asks a service that holds no lease whether it is there: by HTTP, or by a TCP connection. */
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";

export interface Probe {
  readonly type: "http" | "https" | "tcp";
  readonly host: string;
  readonly port: number;
  readonly path: string;
  readonly timeoutMs: number;
}

/** Resolves where it is there (HTTP: any 2xx, as for EdgeX); rejects with the reason, after `timeoutMs` at the latest. */
export const probe = (asked: Probe): Promise<void> => (asked.type === "tcp" ? probeTcp(asked) : probeHttp(asked));

function probeTcp({ host, port, timeoutMs }: Probe): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    const timer = setTimeout(() => socket.destroy(new Error(`did not connect within ${timeoutMs} ms`)), timeoutMs);
    socket.once("connect", () => {
      resolve();
      socket.destroy();
    });
    socket.once("error", reject);
    socket.once("close", () => clearTimeout(timer));
  });
}

function probeHttp({ type, host, port, path, timeoutMs }: Probe): Promise<void> {
  return new Promise((resolve, reject) => {
    const send = type === "https" ? httpsRequest : httpRequest;
    const sent = send({ host, port, path, agent: false }, (response) => {
      const status = response.statusCode ?? 0;
      if (status >= 200 && status < 300) resolve();
      else reject(new Error(`answered ${status}`));
      // The body is nobody's; it may be endless.
      response.destroy();
    });
    const timer = setTimeout(() => sent.destroy(new Error(`did not answer within ${timeoutMs} ms`)), timeoutMs);
    sent.once("error", reject);
    sent.once("close", () => clearTimeout(timer));
    sent.end();
  });
}
