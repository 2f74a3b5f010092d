/** Makes the sender of a destination; what a kind needs is loaded when it is used. */
import type { Clock } from "../../../kernel/clock.ts";
import type { Log } from "../../../kernel/log.ts";
import type { DestinationConfig } from "./config.ts";
import type { Sender } from "./sender.ts";
import { isExposed, placeOf } from "./wire.ts";

/** Destinations but our cloud, which is enrolled at. */
export type ForeignConfig = Exclude<DestinationConfig, { kind: "cloud" }>;

/** One way to a destination. */
export interface SenderWay {
  readonly url?: string | undefined;
  readonly localAddress?: string | undefined;
}

export interface SenderOptions<C = ForeignConfig> {
  /** The destination's name; with the node's it is what message ids are unique among. */
  readonly name: string;
  readonly node: string;
  readonly config: C;
  readonly way?: SenderWay;
  /** Texts of the files that the config names, by path. */
  readonly secrets: Readonly<Record<string, string>>;
  readonly clock: Clock;
  readonly log: Log;
}

type Make = (options: SenderOptions<never>) => Sender;

const KINDS: { readonly [K in ForeignConfig["kind"]]: () => Promise<Make> } = {
  https: async () => (await import("./https.ts")).makeHttpsSender,
  mqtt: async () => (await import("./mqtt.ts")).makeMqttSender,
  sparkplug: async () => (await import("./sparkplug/sender.ts")).makeSparkplugSender,
  otlp: async () => (await import("./otlp.ts")).makeOtlpSender,
  nats: async () => (await import("./nats.ts")).makeNatsSender,
};

/** Makes the sender of a destination, by one of its ways; connects when something is sent. PIPELINE_DESTINATION_INVALID. */
export async function makeSender(options: SenderOptions): Promise<Sender> {
  const { config, way, secrets, log, name } = options;
  const place = placeOf({ ...config, url: way?.url ?? config.url, secrets });
  if (isExposed(place))
    log.warn(
      { destination: name },
      `'${name}' is sent to ${place.host} without TLS: anybody on the way reads and changes it`,
    );
  const make = await KINDS[config.kind]();
  return make(options as SenderOptions<never>);
}
