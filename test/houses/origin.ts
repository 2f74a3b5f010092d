/** A server of others behind the gateway: plain HTTP, answers as a test says, remembers what it was asked; and who asks. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Agent, request as requestHttps } from "node:https";
import type { AddressInfo } from "node:net";

export interface Asked {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** What is answered: an object for most, or all of it by hand. */
export type Answering =
  | { readonly status?: number; readonly headers?: Record<string, string | string[]>; readonly body?: string }
  | ((asked: Asked, response: ServerResponse) => void);

export type Origin = Awaited<ReturnType<typeof startOrigin>>;

/** Starts a server on a port of its own, whose clock says `nowMs`. `answer` may be changed at any time. */
export async function startOrigin(answer: Answering = {}, nowMs: () => number = Date.now) {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    response.sendDate = false;
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { method = "", url = "", headers } = request;
      const each = { method, url, headers, body: Buffer.concat(chunks).toString() };
      asked.push(each);
      const { answer: how } = origin;
      if (typeof how === "function") return how(each, response);
      response.writeHead(how.status ?? 200, { Date: new Date(nowMs()).toUTCString(), ...how.headers });
      response.end(how.body ?? `answer ${asked.length}`);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const origin = {
    url: `http://127.0.0.1:${port}`,
    port,
    asked,
    answer,
    async stop() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return origin;
}

export interface Got {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** Asks the gateway as any program does. */
export function asker(house: { readonly port: number; readonly caPem: string }) {
  // Its authority is checked; its name is not, since a test may send whatever Host it likes.
  const agent = new Agent({ ca: house.caPem, keepAlive: true, checkServerIdentity: () => undefined });
  const ask = async (
    method: string,
    path: string,
    { headers = {}, body }: { headers?: Record<string, string>; body?: string } = {},
  ): Promise<Got> => {
    // Node frames a body of DELETE only where it is told to.
    const length = body === undefined ? {} : { "Content-Length": String(Buffer.byteLength(body)) };
    const request = requestHttps({
      host: "localhost",
      port: house.port,
      method,
      path,
      headers: { ...length, ...headers },
      agent,
    });
    request.end(body);
    const [response] = (await once(request, "response")) as [IncomingMessage];
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).toString() };
  };
  return { ask, close: () => agent.destroy() };
}
