/** Makes a destination's messages of a batch: its format, one event each or many, cut to size, compressed, encrypted. */
import { encodeCbor } from "../../../kernel/cbor.ts";
import { rowsInOrder } from "../../../kernel/events/blocks.ts";
import { decodeBlocks, encodeBlocks } from "../../../kernel/events/codec.ts";
import { type EdgexEvent, rowToEvent } from "../../../kernel/events/edgex.ts";
import { publisherTag } from "../../../kernel/events/ids.ts";
import type { Block } from "../../../kernel/events/model.ts";
import { stringifyJson } from "../../../kernel/json.ts";
import type { HttpsConfig } from "./config.ts";
import { compress, ENCODINGS, makeSeal, type Seal } from "./envelope.ts";
import { element, eventToXml } from "./xml.ts";

export interface Message {
  /** Its number in the batch, from 0: the same whenever the batch is sent with the same config. */
  readonly index: number;
  /** Topic or subject; empty where the destination has none. */
  readonly place: string;
  readonly body: Uint8Array;
  /** Of a single event that brought one which fits a header field. */
  readonly requestId: string | undefined;
}

/** Request ids that can stand in a header: strangers choose theirs. */
const HEADER_FIT = /^[\x21-\x7e]{1,128}$/;

export type Form = Pick<HttpsConfig, "format" | "shape" | "compression" | "encryption" | "messageBytesMax">;

const TYPES = {
  json: "application/json",
  xml: "application/xml",
  cbor: "application/cbor",
  columns: "application/vnd.holdfast.columns",
} as const;

/** A message before it is compressed. */
interface Plain {
  readonly place: string;
  readonly bytes: Uint8Array;
  readonly requestId?: string | undefined;
}

interface Item {
  readonly event: EdgexEvent;
  readonly requestId: string | undefined;
}

export interface MessageOptions {
  readonly node: string;
  readonly form: Form;
  readonly secrets: Readonly<Record<string, string>>;
  /** Tells the topic or subject of a block's events. */
  readonly placeOf?: (block: Block) => string;
}

export class MessageMaker {
  readonly #o: MessageOptions;
  readonly #seal: Seal | undefined;
  readonly #tags = new Map<string, number>();

  /** PIPELINE_DESTINATION_INVALID where the key is none. */
  constructor(options: MessageOptions) {
    this.#o = options;
    this.#seal = options.form.encryption && makeSeal(options.form.encryption, options.secrets);
  }

  /** Media type of the bodies. */
  get contentType(): string {
    const { encryption, format } = this.#o.form;
    // EdgeX's Encrypt says text/plain of its base64.
    if (encryption) return encryption.algorithm === "aes256" ? "text/plain" : "application/octet-stream";
    return TYPES[format];
  }

  /** Content-Encoding of the bodies; under encryption nobody on the way can undo it, and nothing is said. */
  get contentEncoding(): string | undefined {
    return this.#seal ? undefined : ENCODINGS[this.#o.form.compression];
  }

  /** Makes the messages of a batch from the one of this index on. Fails as decodeBlocks does. */
  async *messages(blocks: Uint8Array, from = 0): AsyncGenerator<Message> {
    let index = 0;
    for (const { place, bytes, requestId } of this.#plain(blocks)) {
      const at = index++;
      if (at < from) continue;
      const small = await compress(bytes, this.#o.form.compression);
      const id = requestId !== undefined && HEADER_FIT.test(requestId) ? requestId : undefined;
      yield { index: at, place, body: this.#seal ? this.#seal(small) : small, requestId: id };
    }
  }

  #plain(bytes: Uint8Array): Iterable<Plain> {
    const { form, placeOf = () => "" } = this.#o;
    const blocks = decodeBlocks(bytes);
    if (form.format === "columns") return columns(blocks, placeOf, bytes);
    const places = new Map(blocks.map((block) => [block, placeOf(block)]));
    return form.shape === "event" || form.shape === "request"
      ? this.#single(blocks, places)
      : this.#lists(blocks, places);
  }

  *#single(blocks: readonly Block[], places: ReadonlyMap<Block, string>): Generator<Plain> {
    for (const { block, row } of rowsInOrder(blocks)) {
      const item = this.#itemOf(block, row);
      yield { place: places.get(block)!, bytes: bytesOf(this.#write(item)), requestId: item.requestId };
    }
  }

  /** Lists of events by place, each cut where it would grow beyond its size. */
  *#lists(blocks: readonly Block[], places: ReadonlyMap<Block, string>): Generator<Plain> {
    const { form } = this.#o;
    const lists = new Map<string, { parts: Uint8Array[]; size: number }>();
    for (const { block, row } of rowsInOrder(blocks)) {
      const place = places.get(block)!;
      const part = bytesOf(this.#write(this.#itemOf(block, row)));
      let list = lists.get(place);
      if (list && list.size + part.length > form.messageBytesMax) {
        yield { place, bytes: joined(list.parts, form) };
        list = undefined;
      }
      if (!list) lists.set(place, (list = { parts: [], size: 0 }));
      list.parts.push(part);
      list.size += part.length + 1;
    }
    for (const [place, { parts }] of lists) yield { place, bytes: joined(parts, form) };
  }

  #itemOf(block: Block, row: number): Item {
    const { name } = block.publisher;
    let tag = this.#tags.get(name);
    if (tag === undefined) this.#tags.set(name, (tag = publisherTag(this.#o.node, name)));
    return { event: rowToEvent(block, row, tag), requestId: block.extras.get(row)?.requestId };
  }

  #write({ event, requestId = "" }: Item): string | Uint8Array {
    const { format, shape } = this.#o.form;
    const isRequest = shape === "request" || shape === "requests";
    if (format === "xml") {
      const xml = eventToXml(event);
      return isRequest
        ? `<AddEventRequest><ApiVersion>v3</ApiVersion>${element("RequestId", requestId)}${xml}</AddEventRequest>`
        : xml;
    }
    const item = isRequest ? { apiVersion: "v3", requestId, event } : event;
    return format === "cbor" ? encodeCbor(withBytes(item)) : stringifyJson(item);
  }
}

const bytesOf = (text: string | Uint8Array): Uint8Array => (typeof text === "string" ? Buffer.from(text) : text);

/** In CBOR binary values are bytes; EdgeX's JSON has base64. */
function withBytes(item: EdgexEvent | { event: EdgexEvent }): object {
  if ("event" in item) return { ...item, event: withBytes(item.event) };
  const readings = item.readings.map((reading) =>
    typeof reading.binaryValue === "string"
      ? { ...reading, binaryValue: Buffer.from(reading.binaryValue, "base64") }
      : reading,
  );
  return { ...item, readings };
}

function joined(parts: readonly Uint8Array[], { format, shape }: Form): Uint8Array {
  if (format === "cbor") return Buffer.concat([arrayHead(parts.length), ...parts]);
  const name = shape === "requests" ? "AddEventRequests" : "Events";
  const [open, comma, close] = format === "xml" ? [`<${name}>`, "", `</${name}>`] : ["[", ",", "]"];
  const between = Buffer.from(comma);
  return Buffer.concat([
    Buffer.from(open),
    ...parts.flatMap((part, at) => (at === 0 ? [part] : [between, part])),
    Buffer.from(close),
  ]);
}

/** The head of an array of so many items in CBOR (RFC 8949 3.1, major type 4, 32 bits). */
function arrayHead(count: number): Buffer {
  const head = Buffer.from([0x9a, 0, 0, 0, 0]);
  head.writeUInt32BE(count, 1);
  return head;
}

/** Columns by place; as they are where there is one place. */
function* columns(blocks: readonly Block[], placeOf: (block: Block) => string, bytes: Uint8Array): Generator<Plain> {
  const groups = Map.groupBy(blocks, placeOf);
  for (const [place, group] of groups) yield { place, bytes: groups.size === 1 ? bytes : encodeBlocks(group) };
}
