/** Sends batches to NATS JetStream: durable when a stream has acknowledged every message, each once within its window. */
import { fail, UNAVAILABLE } from "../../../kernel/error.ts";
import { type NatsAnswer, NatsConnection } from "../../../kernel/nats/connection.ts";
import type { NatsConfig } from "./config.ts";
import { Delivery, Refused } from "./delivery.ts";
import { ENCODINGS } from "./envelope.ts";
import { MessageMaker } from "./messages.ts";
import { makePlaceOf, NATS_LEVELS } from "./places.ts";
import type { Bytes, Sender } from "./sender.ts";
import type { SenderOptions } from "./senders.ts";
import { SharedConnection } from "./shared-connection.ts";
import { dial, encrypted, inWords, Meter, placeOf } from "./wire.ts";

/** Messages that wait for their acknowledgement at once. */
const IN_FLIGHT_MAX = 64;
/** Status of an answer that the server gives where nobody listens. */
const NO_RESPONDERS = 503;
/** JetStream's error codes (server, jetstream_errors): what is the message's own fault. */
const MESSAGE_TOO_LARGE = 10_054;
const STREAM_OTHER = 10_060;

/** JetStream's answer to a publish. */
interface PubAck {
  readonly stream?: string;
  readonly seq?: number;
  readonly error?: { readonly code?: number; readonly err_code?: number; readonly description?: string };
}

/** Makes the sender. PIPELINE_DESTINATION_INVALID. */
export function makeNatsSender({ config, node, name, secrets, way }: SenderOptions<NatsConfig>): Sender {
  const meter = new Meter();
  const place = placeOf({ ...config, url: way?.url ?? config.url, secrets, localAddress: way?.localAddress });
  const maker = new MessageMaker({
    node,
    form: config,
    secrets,
    placeOf: makePlaceOf(config.subject, node, NATS_LEVELS),
  });
  const { tls } = place;
  const text = (file: string | undefined) => (file === undefined ? undefined : (secrets[file] ?? "").trim());
  const login = {
    username: config.username,
    password: text(config.passwordFile),
    token: text(config.tokenFile),
    credentials: text(config.credentialsFile),
  };
  const shared = new SharedConnection(() =>
    NatsConnection.open({
      name: `holdfast-${node}-${name}`,
      login,
      timeoutMs: config.timeoutMs,
      dial: () => dial({ ...place, tls: undefined }, meter),
      secure: tls && ((tcp) => encrypted(tcp, tls)),
      inWords: (error) => inWords(error, place),
    }),
  );
  const encoding = ENCODINGS[config.compression];
  const delivery = new Delivery({
    maker,
    inFlightMax: IN_FLIGHT_MAX,
    scope: `${node}.${name}`,
    async post({ body, place: subject, requestId }, id) {
      const connection = await shared.get();
      const headers: Record<string, string> = { "Nats-Msg-Id": id, "Content-Type": maker.contentType };
      if (encoding !== undefined) headers["Content-Encoding"] = encoding;
      if (requestId !== undefined) headers["X-Correlation-ID"] = requestId;
      if (config.stream !== undefined) headers["Nats-Expected-Stream"] = config.stream;
      // The head is of some hundred bytes, and counts.
      if (body.length + 1_024 > connection.payloadBytesMax)
        throw new Refused(`${body.length} bytes are more than the server takes (${connection.payloadBytesMax})`);
      judge(await connection.request(subject, headers, body), subject, config.stream);
    },
  });
  return {
    get bytes(): Bytes {
      return meter.bytes;
    },
    send: (...of) => delivery.send(...of),
    close: () => shared.close(),
  };
}

function judge({ status, body }: NatsAnswer, subject: string, expected: string | undefined): void {
  if (status === NO_RESPONDERS)
    throw fail(
      UNAVAILABLE,
      `no JetStream stream takes the subject '${subject}': make one, or start the server with -js`,
    );
  const { error, seq, stream } = readAck(body);
  if (!error) {
    if (seq === undefined) throw fail(UNAVAILABLE, `what answers '${subject}' is no JetStream stream`);
    if (expected !== undefined && stream !== expected)
      throw fail(UNAVAILABLE, `the stream '${stream}' took '${subject}', not '${expected}'`);
    return;
  }
  const said = `JetStream refused a message to '${subject}': ${error.description ?? error.code ?? "no reason"}`;
  if (error.err_code === MESSAGE_TOO_LARGE) throw new Refused(said);
  throw fail(UNAVAILABLE, error.err_code === STREAM_OTHER ? `${said} (the config expects '${expected}')` : said);
}

function readAck(body: string): PubAck {
  try {
    return JSON.parse(body) as PubAck;
  } catch {
    // Somebody else listens to the subject and answers in words of his own.
    return {};
  }
}
