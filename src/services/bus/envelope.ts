/** EdgeX's message envelope, in every form that its software writes, to events and back (FACTS: message bus). */
import { newRequestId, readRequestId } from "../../kernel/call.ts";
import { decodeCbor, encodeCbor } from "../../kernel/cbor.ts";
import type { Envelope, Event } from "../../kernel/edgex.ts";
import { Event as EventSchema } from "../../kernel/edgex.ts";
import { asFailure, fail } from "../../kernel/error.ts";
import { type EventRow, eventToRow } from "../../kernel/events/edgex.ts";
import { parseJson, stringifyJson } from "../../kernel/json.ts";
import { CBOR_TYPE, foldKeys, JSON_TYPE } from "../../kernel/wire.ts";
import { APPEND_BYTES_MAX, BUS_EVENT_INVALID } from "./api.ts";
import { fitsTopic } from "./topics.ts";

const CBOR_MAP_FIRST = 0xa0;
const CBOR_MAP_LAST = 0xbf;

type Members = { readonly [key: string]: unknown };
const isMembers = (value: unknown): value is Members =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);

const refuse = (message: string, cause?: unknown) =>
  fail(BUS_EVENT_INVALID, message, cause === undefined ? undefined : { cause });

/** JSON and CBOR are told by the first byte: a CBOR map begins with none that JSON text can begin with. */
function decode(bytes: Uint8Array): unknown {
  const first = bytes[0] ?? 0;
  const limits = { bytesMax: APPEND_BYTES_MAX };
  return first >= CBOR_MAP_FIRST && first <= CBOR_MAP_LAST ? decodeCbor(bytes, limits) : parseJson(bytes, limits);
}

/** Go matches keys in any case. */
function member(of: Members, name: string): unknown {
  if (Object.hasOwn(of, name)) return of[name];
  const lower = name.toLowerCase();
  const key = Object.keys(of).find((k) => k.toLowerCase() === lower);
  return key === undefined ? undefined : of[key];
}

function decodePayload(payload: unknown): unknown {
  if (payload instanceof Uint8Array) return decode(payload);
  if (typeof payload !== "string") return payload;
  // "A string payload is treated by receivers as base64" (FACTS); Buffer would skip what is none, and hide a fault.
  if (!/^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(payload)) throw refuse("the envelope's payload is a text that is not base64");
  return decode(Buffer.from(payload, "base64"));
}

/**
 * Reads the event in a message: an envelope in JSON or CBOR with its payload as object, base64 or bytes, or an
 * AddEventRequest without envelope. Fails BUS_EVENT_INVALID with what is wrong, also where the topic's last three
 * levels
 * are not its profile, device and source (core-data of EdgeX drops those).
 */
export function readEvent(topic: string, bytes: Uint8Array): EventRow {
  try {
    const outer = decode(bytes);
    if (!isMembers(outer)) throw refuse("the message is no object");
    const payload = member(outer, "payload");
    const wrapped = payload !== undefined;
    if (wrapped && Number(member(outer, "errorCode") ?? 0) !== 0) throw refuse("the envelope tells of an error");
    const request = wrapped ? decodePayload(payload) : outer;
    if (!isMembers(request)) throw refuse("the envelope's payload is no AddEventRequest");
    const event = foldKeys(member(request, "event") ?? request, EventSchema) as Event;
    const row = eventToRow(event);
    if (!fitsTopic(topic, row.series)) {
      const { profileName, deviceName, sourceName } = row.series;
      throw refuse(`the topic does not end in the event's '${profileName}/${deviceName}/${sourceName}'`);
    }
    const requestId = readRequestId(textOf(member(outer, "correlationID")));
    return requestId ? { ...row, extra: { ...row.extra, requestId } } : row;
  } catch (error) {
    const failure = asFailure(error);
    throw failure.code === BUS_EVENT_INVALID.code ? failure : refuse(failure.message, error);
  }
}

const textOf = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);

/**
 * Writes an event as EdgeX's device services do: an envelope in JSON; where a reading is binary, its payload CBOR in
 * base64.
 */
export function writeEvent(event: Event, requestId: string | undefined): string {
  const correlationID = requestId ?? newRequestId();
  const binary = event.readings.some((r) => r.valueType === "Binary");
  const request = { apiVersion: "v3", requestId: correlationID, event: binary ? withBytes(event) : event };
  const envelope: Envelope = {
    apiVersion: "v3",
    receivedTopic: "",
    correlationID,
    requestID: "",
    errorCode: 0,
    payload: binary ? encodeCbor(request).toBase64() : request,
    contentType: binary ? CBOR_TYPE : JSON_TYPE,
  };
  return stringifyJson(envelope);
}

const withBytes = (event: Event): Event => ({
  ...event,
  readings: event.readings.map((r) =>
    typeof r.binaryValue === "string" ? { ...r, binaryValue: Uint8Array.fromBase64(r.binaryValue) } : r,
  ),
});
