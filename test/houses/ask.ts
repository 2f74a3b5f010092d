/** Asks a node as its clients do: over HTTP with EdgeX's ports, over HTTPS with the gateway; what is asked goes out as it is. */
import { Agent as PlainAgent, request as plainRequest, type RequestOptions } from "node:http";
import { Agent as TlsAgent, request as tlsRequest } from "node:https";
import { parseJson, stringifyJson } from "../../src/kernel/json.ts";
import type { Whole } from "./whole.ts";

export interface Asked {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  /** The JSON, exact; undefined where there is none. */
  readonly body: Record<string, unknown>;
  /** The same where it is a list. */
  readonly list: Record<string, unknown>[];
}

export interface Question {
  readonly headers?: Readonly<Record<string, string>>;
  /** A text or bytes go out as they are, all else as JSON. */
  readonly body?: unknown;
}

/** Asks one door. */
export type Ask = (method: string, path: string, question?: Question) => Promise<Asked>;

/** Asks a port of loopback that speaks plain HTTP. */
export function plainDoor(port: number): Ask {
  const agent = new PlainAgent({ keepAlive: true });
  return (method, path, question) =>
    send((options) => plainRequest({ ...options, host: "127.0.0.1", port, agent, method, path }), question);
}

/** Asks the gateway of a node, with a token of this role. */
export async function gatewayDoor(house: Whole, role = "admin"): Promise<Ask> {
  const token = (await house.text("token", "--role", role)).trim();
  const ca = await house.text("ca");
  const agent = new TlsAgent({ keepAlive: true, ca, servername: "localhost" });
  const at = { host: "127.0.0.1", port: house.gatewayPort, agent };
  return (method, path, question = {}) => {
    const headers = { authorization: `Bearer ${token}`, ...question.headers };
    return send((options) => tlsRequest({ ...options, ...at, method, path }), { ...question, headers });
  };
}

function send(open: (options: RequestOptions) => ReturnType<typeof plainRequest>, question: Question = {}) {
  const { body, headers = {} } = question;
  const asIs = typeof body === "string" || body instanceof Uint8Array;
  const bytes = body === undefined ? undefined : asIs ? Buffer.from(body as string) : Buffer.from(stringifyJson(body));
  const entity = bytes ? { "content-type": "application/json", "content-length": String(bytes.length) } : {};
  return new Promise<Asked>((resolve, reject) => {
    const sent = open({ headers: { ...entity, ...headers } });
    let answered = false;
    sent.once("response", (response) => {
      answered = true;
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.once("error", reject);
      response.once("end", () => {
        const text = Buffer.concat(chunks).toString();
        const read = parsed(text);
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          body: read as Asked["body"],
          list: read as Asked["list"],
        });
      });
    });
    // A server that has answered need not read the rest of a body.
    sent.on("error", (error) => answered || reject(error));
    sent.end(bytes);
  });
}

function parsed(text: string): unknown {
  try {
    return parseJson(text);
  } catch {
    // The test looks at the text then.
    return undefined;
  }
}
