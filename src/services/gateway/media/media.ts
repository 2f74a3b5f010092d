/** The forms that a body can have: JSON, CBOR (RFC 8949), MessagePack; which of them a client would rather have. */
import { decodeCbor, encodeCbor } from "../../../kernel/cbor.ts";
import { parseJson, stringifyJson } from "../../../kernel/json.ts";
import { CBOR_TYPE, JSON_TYPE } from "../../../kernel/wire.ts";

/** A form with its codec; decoding fails INPUT_MALFORMED, INPUT_TOO_DEEP, INPUT_TOO_LARGE. */
export interface Media {
  readonly type: string;
  decode(bytes: Uint8Array): unknown;
  encode(value: unknown): Uint8Array;
}

export type MediaName = "json" | "cbor" | "msgpack";

export const JSON_MEDIA: Media = {
  type: JSON_TYPE,
  decode: (bytes) => parseJson(bytes),
  encode: (value) => Buffer.from(stringifyJson(value)),
};
const CBOR_MEDIA: Media = { type: CBOR_TYPE, decode: (bytes) => decodeCbor(bytes), encode: encodeCbor };
const MSGPACK_TYPE = "application/vnd.msgpack";

/** Gives a form; MessagePack's codec is loaded when the first asks for it. */
export function mediaOf(name: MediaName): Media | Promise<Media> {
  if (name === "json") return JSON_MEDIA;
  if (name === "cbor") return CBOR_MEDIA;
  return Promise.all([import("./msgpack-reader.ts"), import("./msgpack-writer.ts")]).then(
    ([{ decodeMsgpack: decode }, { encodeMsgpack: encode }]) => ({ type: MSGPACK_TYPE, decode, encode }),
  );
}

const NAMES: Readonly<Record<string, MediaName>> = {
  [JSON_TYPE]: "json",
  [CBOR_TYPE]: "cbor",
  [MSGPACK_TYPE]: "msgpack",
  "application/msgpack": "msgpack",
  "application/x-msgpack": "msgpack",
};

/** Gives a form under the name that a client knows it by. */
export async function mediaAsNamed(name: MediaName, accept = ""): Promise<Media> {
  const media = await mediaOf(name);
  const type = accept.split(/[\s,;]+/).find((each) => NAMES[each.toLowerCase()] === name);
  return type === undefined || type === media.type ? media : { ...media, type: type.toLowerCase() };
}

/** The form that a Content-Type names; undefined for any other. */
export const mediaNamed = (contentType: string | undefined): MediaName | undefined => {
  const type = contentType?.split(";", 1)[0].trim().toLowerCase() ?? "";
  return NAMES[type] ?? (type.endsWith("+json") ? "json" : undefined);
};

/** More ranges than any honest client lists; those behind are not read. */
const RANGES_MAX = 32;

/**
 * Reads Accept (RFC 9110 12.5.1): the form with the highest quality, of several the one that is named more exactly, then the
 * one named first. JSON where nothing is said; undefined where none of the three is acceptable.
 */
export function preferred(accept: string | undefined): MediaName | undefined {
  if (accept === undefined || accept.trim() === "") return "json";
  const ranges = accept.split(",", RANGES_MAX).map(readRange);
  let best: { readonly name: MediaName; readonly rank: readonly number[] } | undefined;
  for (const name of ["json", "cbor", "msgpack"] as const) {
    const range = ranges
      .map(({ type, quality }, at) => ({ exact: exactness(type, name), quality, at }))
      .filter(({ exact }) => exact > 0)
      // The most exact range says how acceptable a form is, whatever the others say.
      .sort((a, b) => b.exact - a.exact || a.at - b.at)[0];
    if (!range || range.quality === 0) continue;
    const rank = [range.quality, range.exact, -range.at];
    if (!best || isAbove(rank, best.rank)) best = { name, rank };
  }
  return best?.name;
}

function readRange(text: string): { type: string; quality: number } {
  const [type, ...parameters] = text.split(";").map((part) => part.trim().toLowerCase());
  const weight = parameters.find((each) => each.startsWith("q="))?.slice(2);
  // RFC 9110 12.4.2: what is no weight counts as one that was not given.
  const isWeight = weight !== undefined && /^(0(\.\d{0,3})?|1(\.0{0,3})?)$/.test(weight);
  return { type, quality: isWeight ? Number(weight) : 1 };
}

function exactness(type: string, name: MediaName): number {
  if (NAMES[type] === name) return 3;
  if (type === "application/*") return 2;
  return type === "*/*" ? 1 : 0;
}

function isAbove(a: readonly number[], b: readonly number[]): boolean {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at >= 0 && a[at] > b[at];
}
