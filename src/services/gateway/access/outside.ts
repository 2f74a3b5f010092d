/** Asks an issuer over TLS: JSON of a bounded size in a bounded time, and no other place than the one that was named. */
import { request } from "node:https";
import { isIP } from "node:net";
import { fail, UNAVAILABLE } from "../../../kernel/error.ts";
import { parseJson } from "../../../kernel/json.ts";

/** Name look-up, handshake and answer together. */
const ASK_MS_MAX = 5_000;
/** More of an answer is not read: a set of 64 RSA keys with certificates has 200 KB. */
const ANSWER_BYTES_MAX = 262_144;
const DEPTH_MAX = 16;

export interface Question {
  readonly url: string;
  /** The authorities that the server's certificate must come from, instead of the public ones. */
  readonly caPem: string | undefined;
  /** Posted, where there is one. */
  readonly form?: URLSearchParams;
  readonly authorization?: string;
}

export interface Told {
  readonly status: number;
  readonly value: unknown;
}

/** Asks; UNAVAILABLE where there is no answer in JSON within ASK_MS_MAX and ANSWER_BYTES_MAX. A redirect is an answer like another. */
export async function ask(question: Question): Promise<Told> {
  const { url } = question;
  const where = placeOf(url);
  try {
    const { status, type, body } = await send(question, where);
    if (!/^application\/([\w.+-]+\+)?json *(;|$)/i.test(type)) throw new Error(`status ${status}, and no JSON`);
    return { status, value: parseJson(body, { bytesMax: ANSWER_BYTES_MAX, depthMax: DEPTH_MAX }) };
  } catch (cause) {
    const why = (cause as Error).message.slice(0, 200);
    throw fail(UNAVAILABLE, `${where.host} could not be asked: ${why}`, { cause, retryAfterS: 5 });
  }
}

/** Asks for a thing that is there; UNAVAILABLE where it is not. */
export async function askFor(url: string, caPem: string | undefined): Promise<unknown> {
  const { status, value } = await ask({ url, caPem });
  if (status !== 200)
    throw fail(UNAVAILABLE, `${placeOf(url).host} answered with status ${status}`, { retryAfterS: 5 });
  return value;
}

/** RFC 8725 3.10, RFC 8414 2: keys and endpoints are read over TLS alone. UNAVAILABLE. */
function placeOf(url: string): URL {
  const place = URL.canParse(url) ? new URL(url) : undefined;
  if (place?.protocol !== "https:" || place.username !== "" || place.password !== "")
    throw fail(
      UNAVAILABLE,
      `an issuer is asked at an address that begins with https://, not at '${url.slice(0, 200)}'`,
    );
  return place;
}

interface Raw {
  readonly status: number;
  readonly type: string;
  readonly body: Buffer;
}

function send({ caPem, form, authorization }: Question, url: URL): Promise<Raw> {
  const body = form && Buffer.from(form.toString());
  const host = url.hostname.replace(/^\[|\]$/g, "");
  return new Promise((resolve, reject) => {
    const asked = request(url, {
      method: body ? "POST" : "GET",
      // Asked once in minutes: nothing is kept open.
      agent: false,
      minVersion: "TLSv1.2",
      ...(isIP(host) ? {} : { servername: host }),
      ...(caPem === undefined ? {} : { ca: caPem }),
      signal: AbortSignal.timeout(ASK_MS_MAX),
      headers: {
        accept: "application/json",
        ...(body ? { "content-type": "application/x-www-form-urlencoded", "content-length": body.length } : {}),
        ...(authorization === undefined ? {} : { authorization }),
      },
    });
    asked.once("error", reject);
    asked.once("response", (answer) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      answer.on("data", (chunk: Buffer) => {
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes > ANSWER_BYTES_MAX) asked.destroy(new Error(`the answer has over ${ANSWER_BYTES_MAX} bytes`));
      });
      answer.once("error", reject);
      answer.once("end", () =>
        resolve({
          status: answer.statusCode ?? 0,
          type: answer.headers["content-type"] ?? "",
          body: Buffer.concat(chunks),
        }),
      );
    });
    asked.end(body);
  });
}
