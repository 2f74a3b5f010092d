/** etcd's JSON gateway: calls and watches over HTTP, at one of the cluster's members and at the next where it fails. */
import { Agent as PlainAgent, type IncomingMessage, request as plainRequest } from "node:http";
import { Agent as TlsAgent, request as tlsRequest } from "node:https";
import type { ConnectionOptions } from "node:tls";
import { Failure, fail, UNAVAILABLE } from "../../../kernel/error.ts";

/** A longer answer, or a longer line of a watch, is refused: it is no fleet's. */
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
/** gRPC's code for a token that is not known (any more). */
const UNAUTHENTICATED = 16;

export interface EtcdClientOptions {
  /** Addresses of members. */
  readonly urls: readonly string[];
  readonly tls: ConnectionOptions;
  /** For an etcd with authentication. */
  readonly login?: { readonly name: string; readonly password: string } | undefined;
  /** An answer that takes longer is not waited for: the next member is asked. */
  readonly timeoutMs: number;
}

type Json = Readonly<Record<string, unknown>>;

/** What the gateway says of a failure: `code` in calls, `grpc_code` in streams. */
interface Refusal {
  readonly error?: string | { readonly message?: string; readonly grpc_code?: number };
  readonly message?: string;
  readonly code?: number;
}

export class EtcdClient {
  readonly #o: EtcdClientOptions;
  readonly #agents = { "http:": new PlainAgent({ keepAlive: true }), "https:": new TlsAgent({ keepAlive: true }) };
  #at = 0;
  #token: string | undefined;

  constructor(options: EtcdClientOptions) {
    this.#o = options;
  }

  /** Asks one member after the other, each once. UNAVAILABLE where none answers. */
  async call(path: string, body: Json): Promise<Json> {
    let last: unknown;
    for (let tries = 0; tries < this.#o.urls.length; tries++) {
      const at = this.#at;
      try {
        return await this.#ask(path, body);
      } catch (error) {
        last = error;
        this.#leave(at);
      }
    }
    throw last;
  }

  /** Streams the results of a watch, until it breaks, or `signal` aborts. */
  async *watch(body: Json, signal: AbortSignal): AsyncGenerator<Json> {
    const at = this.#at;
    try {
      const response = await this.#send("/v3/watch", body, signal);
      for await (const line of linesOf(response)) {
        const { result, ...refused } = JSON.parse(line) as { result?: Json } & Refusal;
        if (!result) throw this.#refusal(refused, "/v3/watch");
        yield result;
      }
    } catch (error) {
      if (signal.aborted) return;
      this.#leave(at);
      throw this.#inWords(error);
    }
    if (!signal.aborted) this.#leave(at);
  }

  close(): void {
    for (const agent of Object.values(this.#agents)) agent.destroy();
  }

  /** The next member is asked from now on, unless somebody went on already. */
  #leave(at: number): void {
    if (this.#at === at) this.#at = (at + 1) % this.#o.urls.length;
  }

  async #ask(path: string, body: Json): Promise<Json> {
    const { login, timeoutMs } = this.#o;
    const signal = AbortSignal.timeout(timeoutMs);
    try {
      if (login && this.#token === undefined)
        this.#token = (await this.#json("/v3/auth/authenticate", login, signal))["token"] as string;
      return await this.#json(path, body, signal);
    } catch (error) {
      throw this.#inWords(error);
    }
  }

  async #json(path: string, body: Json, signal: AbortSignal): Promise<Json> {
    let text = "";
    for await (const line of linesOf(await this.#send(path, body, signal))) text += line;
    const answer = JSON.parse(text) as Json & Refusal;
    if (answer.error !== undefined) throw this.#refusal(answer, path);
    return answer;
  }

  #send(path: string, body: Json, signal: AbortSignal): Promise<IncomingMessage> {
    const url = new URL(path, this.#o.urls[this.#at]);
    const protocol = url.protocol as "http:" | "https:";
    const headers = {
      "content-type": "application/json",
      ...(this.#token === undefined ? {} : { authorization: this.#token }),
    };
    return new Promise((resolve, reject) => {
      const options = { method: "POST", agent: this.#agents[protocol], headers, signal };
      const sent = protocol === "https:" ? tlsRequest(url, { ...this.#o.tls, ...options }) : plainRequest(url, options);
      sent.once("response", resolve).once("error", reject).end(JSON.stringify(body));
    });
  }

  #refusal({ error, message, code }: Refusal, path: string): Failure {
    const said = typeof error === "object" ? error.message : (message ?? error);
    const number = typeof error === "object" ? error.grpc_code : code;
    // A token lives five minutes; the next call gets another.
    if (number === UNAUTHENTICATED || said?.includes("invalid auth token")) this.#token = undefined;
    return fail(UNAVAILABLE, `etcd refused ${path}: ${said ?? "without a reason"}`);
  }

  #inWords(error: unknown): Failure {
    if (error instanceof Failure) return error;
    const { hostname, port } = new URL(this.#o.urls[this.#at]);
    const { name, message } = error as Error;
    const said = name === "TimeoutError" || name === "AbortError" ? `no answer in ${this.#o.timeoutMs} ms` : message;
    return fail(UNAVAILABLE, `etcd at ${hostname}:${port}: ${said || String(error)}`, { cause: error });
  }
}

/** Cuts an answer into its lines, each a JSON value. */
async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  let held: string[] = [];
  let size = 0;
  for await (const chunk of response.setEncoding("utf8") as AsyncIterable<string>) {
    size += chunk.length;
    if (size > ANSWER_BYTES_MAX) throw new Error(`it answers with more than ${ANSWER_BYTES_MAX} bytes`);
    const [first = "", ...lines] = chunk.split("\n");
    held.push(first);
    if (lines.length === 0) continue;
    for (const line of [held.join(""), ...lines.slice(0, -1)]) if (line !== "") yield line;
    held = [lines.at(-1)!];
    size = held[0].length;
  }
  if (size > 0 && held.join("") !== "") yield held.join("");
}
