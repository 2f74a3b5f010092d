/** A message of the bus as HTTP shows it. */
import { isUtf8 } from "node:buffer";
import { parseJson, stringifyJson } from "../../../kernel/json.ts";
import { JSON_TYPE } from "../../../kernel/wire.ts";
import type { BusMessage } from "../../bus/api.ts";

/** What is heard of the bus, until it is stopped. */
export interface Heard {
  readonly messages: AsyncIterable<BusMessage>;
  readonly stop: () => void;
}

/** One line of JSON: the topic, and the payload as JSON where it is that, as text, or else as base64. */
export const textOf = ({ topic, payload }: BusMessage): string =>
  stringifyJson({ topic, ...contentOf(Buffer.from(payload)) });

function contentOf(payload: Buffer): object {
  if (!isUtf8(payload)) return { base64: payload.toString("base64") };
  const text = payload.toString();
  const value = jsonIn(text);
  return value === undefined ? { text } : { payload: value };
}

/** Undefined where a text is no JSON. */
function jsonIn(text: string): unknown {
  try {
    return parseJson(text);
  } catch {
    // A text that is no JSON is a text.
    return undefined;
  }
}

/** The Content-Type of a payload that says none. */
export function typeOf(payload: Buffer): string {
  if (!isUtf8(payload)) return "application/octet-stream";
  return jsonIn(payload.toString()) === undefined ? "text/plain; charset=utf-8" : JSON_TYPE;
}
