/** Sends telemetry by OTLP/HTTP (OTLP 1.x): a request a batch, in protobuf or JSON, to /v1/traces, /v1/logs and /v1/metrics. */
import { gzipSync, zstdDecompressSync } from "node:zlib";
import { type Signal, toProtobuf } from "../telemetry/protobuf.ts";
import type { OtlpConfig } from "./config.ts";
import { Delivery } from "./delivery.ts";
import { headersOf, Poster } from "./https.ts";
import type { Message } from "./messages.ts";
import type { Bytes, Sender } from "./sender.ts";
import type { SenderOptions } from "./senders.ts";
import { Meter, placeOf } from "./wire.ts";

/** OTLP/HTTP, "Retryable Response Codes": no other failure of the server is retried. */
const RETRYABLE = new Set([502, 503, 504]);
/** More than any batch unpacks to. */
const REQUEST_BYTES_MAX = 64 * 1024 * 1024;

/** Makes the sender. PIPELINE_DESTINATION_INVALID. */
export function makeOtlpSender(options: SenderOptions<OtlpConfig>): Sender {
  const { config, node, name, secrets, clock, way } = options;
  const meter = new Meter();
  const url = way?.url ?? config.url;
  const place = placeOf({ ...config, url, secrets, localAddress: way?.localAddress });
  const maker = {
    contentType: config.encoding === "json" ? "application/json" : "application/x-protobuf",
    contentEncoding: config.compression === "gzip" ? "gzip" : undefined,
    messages: (blocks: Uint8Array, after: number) => messagesOf(config, blocks, after),
  };
  const poster = new Poster({
    config: { ...config, method: "POST" },
    url: new URL(url),
    place,
    meter,
    headers: headersOf(config, secrets),
    maker,
    isFinal: (status) => status >= 500 && !RETRYABLE.has(status),
    clock,
  });
  const post: Poster["post"] = (...of) => poster.post(...of);
  const delivery = new Delivery({ maker, inFlightMax: 1, scope: `${node}.${name}`, post });
  return {
    get bytes(): Bytes {
      return meter.bytes;
    },
    send: (...of) => delivery.send(...of),
    close: () => poster.close(),
  };
}

/** The one message of a batch. */
async function* messagesOf(config: OtlpConfig, blocks: Uint8Array, after: number): AsyncGenerator<Message> {
  if (after > 0) return;
  const text = zstdDecompressSync(blocks, { maxOutputLength: REQUEST_BYTES_MAX }).toString();
  const { signal, request } = JSON.parse(text) as { signal: Signal; request: object };
  const plain = config.encoding === "json" ? Buffer.from(JSON.stringify(request)) : toProtobuf(signal, request);
  const body = config.compression === "gzip" ? gzipSync(plain) : plain;
  yield { index: 0, place: `v1/${signal}`, body, requestId: undefined };
}
