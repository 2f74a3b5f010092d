/** Asks a gateway so many times a second, whatever comes of it: an open loop, over kept connections and new ones. */
import { Agent, request } from "node:https";

export interface Ask {
  readonly method: "GET" | "PUT";
  readonly path: string;
  readonly body?: string;
}

export interface LoadOptions {
  readonly port: number;
  readonly token: string;
  readonly ratePerS: number;
  /** In turn. */
  readonly asks: readonly Ask[];
}

/** What the gateway says of a failure, without the request's own id. */
const messageIn = (text: string): string => /"message":"([^"]*","code":"\w+)"/.exec(text)?.[1] ?? text.slice(0, 100);

const TICK_MS = 10;
/** Every so many requests one has a connection of its own. */
const NEW_EVERY = 50;
const TIMEOUT_MS = 20_000;

export class Load {
  readonly #options: LoadOptions;
  readonly #agent = new Agent({ keepAlive: true, rejectUnauthorized: false, maxSockets: 64 });
  readonly #running = new Set<Promise<void>>();
  readonly #timer: NodeJS.Timeout;
  readonly #startMs = performance.now();
  /** How many answers of each kind came: a status, or what went wrong, with what was asked where it is no success. */
  readonly seen = new Map<string, number>();
  sent = 0;
  /** Refused by a gateway whose machine is too busy, with a word on when to come again: no fault of what is restarted. */
  shed = 0;
  slowestMs = 0;
  /** The longest that this process itself had no turn. */
  stalledMs = 0;
  #tickedMs = performance.now();

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#catchUp(), TICK_MS);
  }

  /** Asks no more; resolves when the last answer is there. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#running);
    this.#agent.destroy();
  }

  get failures(): [string, number][] {
    return [...this.seen].filter(([what]) => what !== "200");
  }

  #catchUp(): void {
    const nowMs = performance.now();
    this.stalledMs = Math.max(this.stalledMs, nowMs - this.#tickedMs - TICK_MS);
    this.#tickedMs = nowMs;
    const due = ((performance.now() - this.#startMs) / 1_000) * this.#options.ratePerS;
    while (this.sent < due) {
      const asked = this.#options.asks[this.sent % this.#options.asks.length];
      const agent = this.sent++ % NEW_EVERY === 0 ? false : this.#agent;
      const one = this.#ask(asked, agent).then((what) => void this.seen.set(what, (this.seen.get(what) ?? 0) + 1));
      this.#running.add(one);
      void one.finally(() => this.#running.delete(one));
    }
  }

  #ask({ method, path, body }: Ask, agent: Agent | false): Promise<string> {
    const { port, token } = this.#options;
    const startMs = performance.now();
    return new Promise((resolve) => {
      const end = (what: string) => {
        this.slowestMs = Math.max(this.slowestMs, performance.now() - startMs);
        const isShed = what.includes("GATEWAY_BUSY");
        if (isShed) this.shed++;
        resolve(what === "200" || isShed ? "200" : `${what} ${method} ${path}`);
      };
      const headers = { authorization: `Bearer ${token}`, ...(body ? { "content-type": "application/json" } : {}) };
      const asked = request(
        { host: "127.0.0.1", port, method, path, agent, headers, rejectUnauthorized: false, timeout: TIMEOUT_MS },
        (response) => {
          let text = "";
          response.setEncoding("utf8").on("data", (part: string) => (text += part));
          response.once("end", () =>
            end(response.statusCode === 200 ? "200" : `${response.statusCode} ${messageIn(text)}`),
          );
          response.once("error", (error: NodeJS.ErrnoException) => end(`cut ${error.code}`));
        },
      );
      asked.once("error", (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
      asked.once("timeout", () => asked.destroy(new Error("no answer in time")));
      asked.end(body);
    });
  }
}
