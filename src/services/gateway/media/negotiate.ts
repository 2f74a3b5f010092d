/** Steps that translate bodies: a client speaks JSON, CBOR or MessagePack, whatever the service behind the door speaks. */
import { asFailure, fail, INPUT_TOO_LARGE } from "../../../kernel/error.ts";
import { fieldOf } from "../cache/entry.ts";
import { GATEWAY_UPSTREAM_FAILED } from "../api.ts";
import { Answer } from "../upstream/answer.ts";
import { drop, type Handler, type Reply, type Step, type Visit } from "../visit.ts";
import { JSON_MEDIA, type Media, mediaAsNamed, mediaNamed, type MediaName, mediaOf, preferred } from "./media.ts";

/** `any`: a service of this node, which speaks JSON and CBOR. */
export type Spoken = MediaName | "any";

/** A larger answer goes out in the service's own form where its length is told, and else fails. */
const ANSWER_BYTES_MAX = 4_194_304;
const MEDIA_ASKED = /cbor|msgpack/i;

/** What one form says to another: CBOR is as good as JSON to who speaks both, and carries bytes and large integers as they are. */
const between = (name: MediaName, spoken: Spoken): MediaName =>
  spoken !== "any" ? spoken : name === "json" ? "json" : "cbor";

/**
 * Makes the step that asks for an answer in the form that is spoken behind the door, and gives it in the one that the client
 * prefers; outside of the cache, which holds what the service said. GATEWAY_UPSTREAM_FAILED where an answer cannot be translated.
 */
export const negotiated =
  ({ spoken, cached }: { readonly spoken: Spoken; readonly cached: boolean }): Step =>
  (next) => {
    // A service of this node is asked as it was ever, and nobody keeps its answers: who asks for nothing else costs nothing.
    const always = spoken !== "any" || cached;
    const handle = async (visit: Visit, wanted: MediaName): Promise<Reply> => {
      const media = await mediaAsNamed(wanted, visit.header("accept"));
      visit.media = media;
      const asked = between(wanted, spoken);
      const { type } = await mediaOf(asked);
      setHeader(visit, "accept", type);
      if (asked === wanted) return named(await next(visit));
      // Of the service's bytes: what they are in another form is another range, in a form that cannot be packed yet.
      for (const name of ["range", "if-range", "accept-encoding"]) setHeader(visit, name, undefined);
      return named(await translated(await next(visit), media, visit));
    };
    return (visit) => {
      const accept = visit.header("accept");
      const isPlain = !always && (accept === undefined || !MEDIA_ASKED.test(accept));
      const wanted = isPlain ? undefined : preferred(accept);
      return wanted === undefined ? next(visit) : handle(visit, wanted);
    };
  };

/** Makes the step that puts a request's body into the form that is spoken behind the door; INPUT_MALFORMED, INPUT_TOO_LARGE. */
export const bodyTranslated =
  ({ spoken, bytesMax }: { readonly spoken: Spoken; readonly bytesMax: number }): Step =>
  (next) =>
  (visit) => {
    const given = visit.body === undefined ? undefined : mediaNamed(visit.header("content-type"));
    if (given === undefined || between(given, spoken) === given) return next(visit);
    return withBody(visit, { next, from: given, to: between(given, spoken), bytesMax });
  };

interface Rewritten {
  readonly next: Handler;
  readonly from: MediaName;
  readonly to: MediaName;
  readonly bytesMax: number;
}

async function withBody(visit: Visit, { next, from, to, bytesMax }: Rewritten): Promise<Reply> {
  const [given, wanted] = await Promise.all([mediaOf(from), mediaOf(to)]);
  const body = Buffer.from(wanted.encode(finite(given.decode(visit.body!), wanted)));
  // A number of one byte is up to five in JSON: what grows so is no longer what the limit let in.
  if (body.length > bytesMax)
    throw fail(INPUT_TOO_LARGE, `the body is larger than ${bytesMax} bytes as ${wanted.type}`);
  visit.body = body;
  setHeader(visit, "content-type", wanted.type);
  return next(visit);
}

async function translated(reply: Reply, media: Media, visit: Visit): Promise<Reply> {
  const { headers, body } = reply;
  const from = mediaNamed(fieldOf(headers, "content-type"));
  if (from === undefined || reply.status === 206 || fieldOf(headers, "content-encoding") !== undefined) return reply;
  const given = await mediaOf(from);
  if (given.type === media.type) return reply;
  if (body === undefined) return { ...reply, headers: headersFor(headers, media, undefined) };
  if ((body.length ?? 0) > ANSWER_BYTES_MAX) return reply;
  try {
    const bytes = body instanceof Answer ? await gathered(body, visit) : body;
    const made = Buffer.from(media.encode(finite(given.decode(bytes), media)));
    return { ...reply, headers: headersFor(headers, media, made.length), body: made };
  } catch (cause) {
    drop(reply);
    const { message } = asFailure(cause);
    throw fail(GATEWAY_UPSTREAM_FAILED, `the answer cannot be given as ${media.type}: ${message}`, { cause });
  }
}

async function gathered(answer: Answer, visit: Visit): Promise<Buffer> {
  const bytes = await visit.ticket!.wait(answer.gather(ANSWER_BYTES_MAX));
  if (bytes) return bytes;
  throw fail(GATEWAY_UPSTREAM_FAILED, `it has more than ${ANSWER_BYTES_MAX} bytes`);
}

/** JSON has no NaN and no infinity: they are null in it, as JavaScript writes them. */
function finite(value: unknown, media: Media): unknown {
  if (media !== JSON_MEDIA) return value;
  if (typeof value === "number") return Number.isFinite(value) ? value : null;
  if (Array.isArray(value)) return value.map((item) => finite(item, media));
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, finite(member, media)]));
}

function headersFor(headers: readonly string[], media: Media, length: number | undefined): string[] {
  const made: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i].toLowerCase();
    if (name === "content-length" || name === "content-type" || name === "accept-ranges") continue;
    // RFC 9110 8.8.1: a strong tag is of one sequence of bytes.
    const isStrong = name === "etag" && headers[i + 1].startsWith('"');
    made.push(headers[i], isStrong ? `W/${headers[i + 1]}` : headers[i + 1]);
  }
  made.push("Content-Type", media.type);
  if (length !== undefined) made.push("Content-Length", String(length));
  return made;
}

/** Makes the step, inside of a cache, that keeps apart what a service says in one form and in another. */
export const varied: Step = (next) => async (visit) => named(await next(visit));

/** RFC 9110 12.5.5: who keeps it is told what it was chosen by. */
function named(reply: Reply): Reply {
  const vary = fieldOf(reply.headers, "vary");
  if (vary !== undefined && /(^|,)\s*(\*|accept)\s*(,|$)/i.test(vary)) return reply;
  return { ...reply, headers: [...reply.headers, "Vary", "Accept"] };
}

/** Puts a header of the request in the place of what was there, for all who read it from here on; undefined takes it away. */
function setHeader(visit: Visit, name: string, value: string | undefined): void {
  const { rawHeaders } = visit;
  const own: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2)
    if (rawHeaders[i].toLowerCase() !== name) own.push(rawHeaders[i], rawHeaders[i + 1]);
  const lines = visit.passed.split("\r\n").filter((line) => !line.startsWith(`${name}: `));
  visit.passed = lines.join("\r\n");
  if (value !== undefined) {
    own.push(name, value);
    visit.passed += `${name}: ${value}\r\n`;
  }
  visit.rawHeaders = own;
}
