/** What goes over the wire between a client and a service: bodies in JSON or CBOR, frames of a stream, the shape of errors. */
import type { TSchema } from "typebox";
import { decodeCbor, encodeCbor } from "./cbor.ts";
import { Failure, fail, INPUT_MALFORMED, INPUT_TOO_LARGE, kindOfStatus, MEDIA_TYPE_UNKNOWN } from "./error.ts";
import { parseJson, stringifyJson } from "./json.ts";
import { isTerse, type Names } from "./names.ts";

export const JSON_TYPE = "application/json";
export const CBOR_TYPE = "application/cbor";
/** A stream of frames: a length (4 bytes, big endian), then so many bytes of CBOR. */
export const FRAMES_TYPE = "application/vnd.holdfast.frames";
export const FRAME_BYTES_MAX = 8 * 1024 * 1024;

export const HEADER = {
  requestId: "x-request-id",
  correlationId: "x-correlation-id",
  traceparent: "traceparent",
  /** Milliseconds that the caller still waits. */
  timeout: "x-holdfast-timeout-ms",
  /** The instance a caller means; another one answers 421. */
  instance: "x-holdfast-instance",
  /** The person, as base64url JSON; from the gateway alone. */
  subject: "x-holdfast-subject",
} as const;

/** Encodes a body for the type the other side asked for; `names`, where it knows them by number. */
export const encodeBody = (
  value: unknown,
  type: typeof JSON_TYPE | typeof CBOR_TYPE,
  names?: Names,
): Uint8Array | string => (type === CBOR_TYPE ? encodeCbor(value, names?.ids) : stringifyJson(value));

/** What a body is of that is written with numbers for names. */
export interface Spoken {
  readonly type: string;
  readonly names: Names;
}

/**
 * Decodes a body by its content type; JSON where none is named (EdgeX clients leave it out). `spoken` tells which numbers are
 * known here; those of another contract are not guessed at. INPUT_MALFORMED, MEDIA_TYPE_UNKNOWN.
 */
export function decodeBody(bytes: Uint8Array, contentType: string | undefined, spoken?: () => Spoken): unknown {
  if (isTerse(contentType)) {
    const known = spoken?.();
    if (known !== undefined && known.type === contentType) return decodeCbor(bytes, { names: known.names.list });
    throw fail(MEDIA_TYPE_UNKNOWN, `'${contentType!.slice(0, 100)}' is of another contract than the one here`);
  }
  const type = contentType?.split(";", 1)[0]!.trim().toLowerCase() ?? "";
  if (type === CBOR_TYPE) return decodeCbor(bytes);
  // Without a word from its user curl calls every body a form; EdgeX takes all that is not CBOR for JSON.
  if (["", JSON_TYPE, "text/plain", "application/x-www-form-urlencoded"].includes(type) || type.endsWith("+json"))
    return parseJson(bytes);
  throw fail(MEDIA_TYPE_UNKNOWN, `content type '${type.slice(0, 100)}' is not one that this service reads`);
}

/** Makes one frame of a stream. */
export function encodeFrame(item: unknown, names?: Names): Buffer {
  const body = encodeCbor(item, names?.ids);
  const frame = Buffer.allocUnsafe(4 + body.length);
  frame.writeUInt32BE(body.length, 0);
  frame.set(body, 4);
  return frame;
}

/** Cuts a stream of bytes into decoded frames. A frame of no bytes is a sign of life and is left out. */
export async function* decodeFrames(chunks: AsyncIterable<Buffer>, names?: Names): AsyncGenerator {
  let held: Buffer[] = [];
  let size = 0;
  let need = 4;
  for await (const chunk of chunks) {
    held.push(chunk);
    size += chunk.length;
    if (size < need) continue;
    let all = held.length === 1 ? held[0] : Buffer.concat(held, size);
    for (;;) {
      if (all.length < 4) break;
      const length = all.readUInt32BE(0);
      if (length > FRAME_BYTES_MAX)
        throw fail(INPUT_TOO_LARGE, `a frame of ${length} bytes is over the limit of ${FRAME_BYTES_MAX}`);
      if (all.length < 4 + length) break;
      const body = all.subarray(4, 4 + length);
      all = all.subarray(4 + length);
      if (length > 0) yield decodeFrame(body, names);
    }
    held = all.length > 0 ? [all] : [];
    size = all.length;
    need = size < 4 ? 4 : 4 + all.readUInt32BE(0);
  }
  if (size > 0) throw fail(INPUT_MALFORMED, "the stream ended within a frame");
}

/** A frame that carries a failure ends the stream with it. */
function decodeFrame(body: Uint8Array, names: Names | undefined): unknown {
  const item = decodeCbor(body, { bytesMax: FRAME_BYTES_MAX, names: names?.list });
  if (typeof item === "object" && item !== null && FAILURE_MARK in item)
    throw failureFromWire(item as unknown as ErrorBody);
  return item;
}

const FAILURE_MARK = "holdfastFailure";

export const encodeFailureFrame = (failure: Failure, requestId: string): Buffer =>
  encodeFrame({ [FAILURE_MARK]: true, ...errorBody(failure, requestId) });

/** The one shape of an error on the wire: EdgeX's base response, with the stable code and what to do. */
export interface ErrorBody {
  apiVersion: "v3";
  requestId: string;
  statusCode: number;
  message: string;
  code: string;
  todo: string;
}

export const errorBody = (failure: Failure, requestId: string): ErrorBody => ({
  apiVersion: "v3",
  requestId,
  statusCode: failure.status,
  message: failure.message,
  code: failure.code,
  todo: failure.todo,
});

/** Makes the failure that a service answered into one that the client throws; strangers' answers keep their status and text. */
export function failureFromWire(
  body: Partial<ErrorBody>,
  status = body.statusCode ?? 500,
  retryAfterS?: number,
): Failure {
  const kind = kindOfStatus(status);
  const todo = body.todo ?? "See the message.";
  const declared = { code: body.code ?? `HTTP_${status}`, kind, todo };
  return new Failure(
    declared,
    body.message ?? `answered ${status}`,
    retryAfterS === undefined ? undefined : { retryAfterS },
  );
}

/**
 * Renames the keys of a JSON body to those of the schema where they differ in case only: EdgeX's Go decoder matches
 * without regard to case, and its clients rely on that (`HealthCheck`, `healthCheck`). Keys the schema does not know stay.
 */
export function foldKeys(value: unknown, schema: TSchema): unknown {
  if (Array.isArray(value)) {
    const items = partOf(schema, "items") as TSchema | undefined;
    if (items) for (let i = 0; i < value.length; i++) value[i] = foldKeys(value[i], items);
    return value;
  }
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  const properties = partOf(schema, "properties") as Record<string, TSchema> | undefined;
  if (!properties) return value;
  const object = value as Record<string, unknown>;
  for (const key of Object.keys(object)) {
    let name = key;
    if (!Object.hasOwn(properties, key)) {
      const lower = key.toLowerCase();
      const known = Object.keys(properties).find((p) => p.toLowerCase() === lower);
      if (known === undefined || Object.hasOwn(object, known)) continue;
      object[known] = object[key];
      delete object[key];
      name = known;
    }
    object[name] = foldKeys(object[name], properties[name]);
  }
  return value;
}

/** What a schema says of arrays or objects, also where they are one of several things it may be (`null` is the other). */
function partOf(schema: TSchema, part: "items" | "properties"): unknown {
  const s = schema as { items?: unknown; properties?: unknown; anyOf?: TSchema[] };
  if (s[part] !== undefined || !s.anyOf) return s[part];
  for (const one of s.anyOf) {
    const found = partOf(one, part);
    if (found !== undefined) return found;
  }
  return undefined;
}
