/** A service of an edge house over real HTTP, as EdgeX's software reaches it with `--open-edgex`. */
import { request } from "node:http";
import { PassThrough } from "node:stream";
import type { Contract, Service } from "../../src/kernel/contract.ts";
import { systemClock } from "../../src/kernel/clock.ts";
import { makeLog } from "../../src/kernel/log.ts";
import { type Served, serve } from "../../src/kernel/serve.ts";
import { Tracer } from "../../src/kernel/trace.ts";

export interface Answer<Body = Record<string, unknown>> {
  readonly status: number;
  readonly text: string;
  /** Undefined where there is none, or it is no JSON. */
  readonly body: Body;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

export interface Plain {
  readonly port: number;
  /** Sends a request; the path goes out as it is, a body that is no text as JSON. */
  ask<Body = Record<string, unknown>>(
    this: void,
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Answer<Body>>;
}

/** Serves a contract without TLS on a port of loopback until the test ends. */
export async function plainly<C extends Contract>(
  t: { after(work: () => Promise<void>): void },
  contract: C,
  service: Service<C>,
): Promise<Plain> {
  const served: Served = await serve({
    contract,
    service,
    listen: { host: "127.0.0.1", port: 0 },
    plainCaller: "open-edgex",
    log: makeLog(contract.name, { to: new PassThrough().resume() }),
    clock: systemClock,
    tracer: new Tracer(contract.name, systemClock),
  });
  t.after(() => served.close());
  return {
    port: served.port,
    ask: <Body>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
      new Promise<Answer<Body>>((resolve, reject) => {
        const text = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body);
        const sent = request({
          host: "127.0.0.1",
          port: served.port,
          method,
          path,
          agent: false,
          headers: {
            ...(text === undefined
              ? {}
              : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }),
            ...headers,
          },
        });
        sent.once("error", reject);
        sent.once("response", (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.once("error", reject);
          response.once("end", () => {
            const answered = Buffer.concat(chunks).toString();
            resolve({
              status: response.statusCode ?? 0,
              text: answered,
              body: parsed(answered) as Body,
              headers: response.headers,
            });
          });
        });
        sent.end(text);
      }),
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The test looks at the text then.
    return undefined;
  }
}
