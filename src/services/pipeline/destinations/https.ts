/** Sends batches by HTTPS: a message a request; 2xx is durable, what the server can never take is refused. */
import { createHash } from "node:crypto";
import { type ClientRequest, Agent as HttpAgent, type IncomingMessage, request as httpRequest } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import type { Duplex } from "node:stream";
import type { Clock } from "../../../kernel/clock.ts";
import { fail, type Failure, UNAVAILABLE } from "../../../kernel/error.ts";
import { retryAfterOf } from "../../../kernel/retry-after.ts";
import { ASKED_MS_MAX } from "../pacing/breaker.ts";
import type { HttpsConfig } from "./config.ts";
import { Delivery, Refused } from "./delivery.ts";
import { type Message, MessageMaker } from "./messages.ts";
import type { Bytes, Sender } from "./sender.ts";
import type { SenderOptions } from "./senders.ts";
import { dial, inWords, Meter, PIPELINE_DESTINATION_INVALID, type Place, placeOf } from "./wire.ts";

const CONNECTIONS_MAX = 4;
/** Below what servers keep an idle connection for (Node 5 s, nginx 75 s): the one who sends is the one who closes. */
const IDLE_MS_MAX = 4_000;
/** Of an answer so much is read; a longer one costs its connection. */
const ANSWER_BYTES_MAX = 65_536;
/** Of it so much is told as the reason. */
const REASON_CHARACTERS_MAX = 200;
/** An answer that trickles is none after so many times the timeout. */
const TIMEOUTS_MAX = 20;

/**
 * Answers that say nothing of the message: who asks is not known or may not, the address is wrong, or not now. A config is
 * mended, a server comes back; what was refused meanwhile would have to be replayed by hand.
 */
const NOT_THE_MESSAGE = new Set([401, 403, 404, 405, 407, 408, 421, 423, 425, 429]);

/** Makes the sender. PIPELINE_DESTINATION_INVALID. */
export function makeHttpsSender(options: SenderOptions<HttpsConfig>): Sender {
  const { config, node, name, secrets, clock } = options;
  const meter = new Meter();
  const url = options.way?.url ?? config.url;
  const place = placeOf({ ...config, url, secrets, localAddress: options.way?.localAddress });
  const maker = new MessageMaker({ node, form: config, secrets });
  const poster = new Poster({
    config,
    url: new URL(url),
    place,
    meter,
    headers: headersOf(config, secrets),
    maker,
    clock,
  });
  // One at a time: HTTP keeps no order between requests.
  const delivery = new Delivery({
    maker,
    inFlightMax: 1,
    scope: `${node}.${name}`,
    post: (...of) => poster.post(...of),
  });
  return {
    get bytes(): Bytes {
      return meter.bytes;
    },
    send: (...of) => delivery.send(...of),
    close: () => poster.close(),
  };
}

/** Gathers the header fields of a config, secret ones too. PIPELINE_DESTINATION_INVALID. */
export function headersOf(
  { headers, headerFiles }: Pick<HttpsConfig, "headers" | "headerFiles">,
  secrets: SenderOptions["secrets"],
): Record<string, string> {
  const all = { ...headers };
  for (const [name, file] of Object.entries(headerFiles)) all[name] = (secrets[file] ?? "").trim();
  for (const [name, value] of Object.entries(all))
    // RFC 9110 5.5: what is no field value would be refused by Node with the secret in the message.
    if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(value))
      throw fail(PIPELINE_DESTINATION_INVALID, `the header field ${name} has a character that none may have`);
  return all;
}

interface PosterOptions {
  readonly config: Pick<HttpsConfig, "method" | "timeoutMs">;
  readonly url: URL;
  readonly place: Place;
  readonly meter: Meter;
  readonly headers: Readonly<Record<string, string>>;
  readonly maker: Pick<MessageMaker, "contentType" | "contentEncoding">;
  /** Failures of the server that are of the message, and would be again. */
  readonly isFinal?: (status: number) => boolean;
  readonly clock: Clock;
}

/** Posts messages to one place; what stands in a message's `place` goes behind the path. */
export class Poster {
  readonly #o: PosterOptions;
  readonly #agent: HttpAgent;

  constructor(options: PosterOptions) {
    this.#o = options;
    const { place, meter } = options;
    const settings = { keepAlive: true, maxSockets: CONNECTIONS_MAX, timeout: IDLE_MS_MAX };
    this.#agent = place.tls ? new HttpsAgent({ ...settings, maxCachedSessions: 0 }) : new HttpAgent(settings);
    this.#agent.createConnection = (): Duplex => dial(place, meter);
  }

  close(): void {
    this.#agent.destroy();
  }

  async post(message: Message, id: string, signal: AbortSignal): Promise<void> {
    const { place, config } = this.#o;
    let answer: Answer;
    try {
      answer = await this.#ask(message, id, signal);
    } catch (error) {
      throw inWords(error, place);
    }
    const { status, text } = answer;
    if (status >= 200 && status < 300) return;
    const said = `${config.method} ${place.host}:${place.port} answered ${status}${text ? `: ${text}` : ""}`;
    const isTheMessage = status >= 400 && status < 500 && !NOT_THE_MESSAGE.has(status);
    if (isTheMessage || this.#o.isFinal?.(status)) throw new Refused(said);
    throw this.#notNow(said, answer);
  }

  #notNow(said: string, { status, headers }: Answer): Failure {
    const hint =
      status >= 300 && status < 400 ? " (redirections are not followed: put the new address in the config)" : "";
    const retryAfterS = retryAfterOf(headers, this.#o.clock.wallMs());
    return fail(
      UNAVAILABLE,
      said + hint,
      retryAfterS === undefined ? {} : { retryAfterS: Math.min(retryAfterS, ASKED_MS_MAX / 1_000) },
    );
  }

  #ask(message: Message, id: string, signal: AbortSignal): Promise<Answer> {
    const { config, url, place, headers, maker } = this.#o;
    const { contentType, contentEncoding } = maker;
    const request = (place.tls ? httpsRequest : httpRequest)({
      agent: this.#agent,
      method: config.method,
      host: place.host,
      port: place.port,
      path: pathOf(url, message.place),
      signal,
      timeout: config.timeoutMs,
      headers: {
        "User-Agent": "holdfast",
        ...headers,
        Host: url.host,
        "Content-Type": contentType,
        "Content-Length": message.body.length,
        ...(contentEncoding ? { "Content-Encoding": contentEncoding } : {}),
        // A string of RFC 8941, as draft-ietf-httpapi-idempotency-key-header has it.
        "Idempotency-Key": `"${id}"`,
        "X-Correlation-ID": message.requestId ?? uuidOf(id),
      },
    });
    return answerOf(request, message.body, config.timeoutMs);
  }
}

const pathOf = ({ pathname, search }: URL, place: string): string =>
  (place === "" ? pathname : `${pathname.replace(/\/$/, "")}/${place}`) + search;

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly text: string;
}

function answerOf(request: ClientRequest, body: Uint8Array, timeoutMs: number): Promise<Answer> {
  return new Promise<Answer>((resolve, reject) => {
    const late = () => request.destroy(new Error(`no answer within ${timeoutMs} ms`));
    const trickling = setTimeout(late, timeoutMs * TIMEOUTS_MAX);
    request.once("timeout", late);
    request.once("close", () => clearTimeout(trickling));
    request.once("error", reject);
    request.once("response", (response) => {
      let [text, bytes] = ["", 0];
      response.on("data", (chunk: Buffer) => {
        if (text.length < REASON_CHARACTERS_MAX) text += chunk.toString("latin1");
        if ((bytes += chunk.length) > ANSWER_BYTES_MAX)
          request.destroy(new Error(`an answer of over ${ANSWER_BYTES_MAX} bytes`));
      });
      response.once("error", reject);
      // A server that dies while it answers may not have kept what it was sent.
      response.once("close", () => reject(new Error("the answer was cut off")));
      response.once("end", () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text: shown(text) }),
      );
    });
    request.end(body);
  });
}

/** What of an answer can be shown: the far side chooses it. */
const shown = (text: string): string =>
  text
    .slice(0, REASON_CHARACTERS_MAX)
    .replace(/[^\x21-\x7e]+/g, " ")
    .trim();

/** Makes a request id of a message's: the same when it is sent again (RFC 9562, version 8). */
export function uuidOf(id: string): string {
  const hex = createHash("sha256").update(id).digest("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
