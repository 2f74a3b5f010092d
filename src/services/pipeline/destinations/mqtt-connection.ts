/** One connection to an MQTT broker: opened, used, and gone for good when it breaks; whoever needs one opens the next. */
import { type IClientOptions, type IConnackPacket, MqttClient, type Packet } from "mqtt";
import { fail, type Failure, UNAVAILABLE } from "../../../kernel/error.ts";
import type { MqttConfig } from "./config.ts";
import { Refused } from "./delivery.ts";
import { dial, inWords, type Meter, type Place } from "./wire.ts";

/** A broker that says nothing for so long, and half as long again, is gone. */
const KEEPALIVE_S = 60;
/** Messages that wait for their acknowledgement at once, unless the broker takes fewer: as many as Mosquitto keeps in flight. */
export const IN_FLIGHT_MAX = 20;
/** Fixed header, packet id and properties of a PUBLISH, beside topic and payload. */
const PUBLISH_BYTES = 512;

/** Reason codes that are the message's own fault ([MQTT-5] 3.4.2.1): topic name invalid, payload format invalid. */
const FOR_GOOD = new Set([0x90, 0x99]);

export interface Will {
  readonly topic: string;
  readonly payload: Uint8Array;
}

export interface MqttOptions {
  readonly config: Pick<MqttConfig, "version" | "username" | "passwordFile" | "timeoutMs">;
  readonly clientId: string;
  readonly place: Place;
  readonly meter: Meter;
  readonly secrets: Readonly<Record<string, string>>;
  /** Published by the broker when the connection breaks, with QoS 1. */
  readonly will?: Will;
  readonly onMessage?: (topic: string, payload: Uint8Array) => void;
}

export interface MqttMessage {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: 0 | 1;
  readonly retain?: boolean;
  /** MQTT 5 only. */
  readonly contentType?: string;
  readonly userProperties?: Readonly<Record<string, string>>;
}

export class MqttConnection {
  readonly #client: MqttClient;
  readonly #timeoutMs: number;
  readonly #isFive: boolean;
  readonly #gone = Promise.withResolvers<never>();
  #connack: IConnackPacket | undefined;
  /** Why it is gone. */
  #failure: Failure | undefined;

  private constructor(options: MqttOptions) {
    const { config, clientId, place, meter, secrets, will, onMessage } = options;
    this.#timeoutMs = config.timeoutMs;
    this.#isFive = config.version === "5";
    const settings: IClientOptions = {
      protocolVersion: this.#isFive ? 5 : 4,
      clientId,
      clean: true,
      keepalive: KEEPALIVE_S,
      connectTimeout: config.timeoutMs,
      reconnectPeriod: 0,
      resubscribe: false,
      queueQoSZero: false,
      ...(config.username === undefined ? {} : { username: config.username }),
      ...(config.passwordFile === undefined ? {} : { password: (secrets[config.passwordFile] ?? "").trim() }),
      ...(will ? { will: { topic: will.topic, payload: Buffer.from(will.payload), qos: 1, retain: false } } : {}),
    };
    this.#client = new MqttClient(() => dial(place, meter), settings);
    const lose = (error: Error) => this.#lose(inWords(error, place));
    this.#client.on("error", lose);
    this.#client.on("close", () => lose(new Error("the broker closed the connection")));
    this.#client.on("disconnect", ({ reasonCode }) => lose(new Error(`the broker ended it, reason ${reasonCode}`)));
    this.#client.on("message", (topic, payload) => onMessage?.(topic, payload));
    // Whoever waits is told; where nobody does, the next use finds it.
    this.#gone.promise.catch(() => undefined);
  }

  /** Connects. UNAVAILABLE, PIPELINE_PORT_FORBIDDEN. */
  static async open(options: MqttOptions): Promise<MqttConnection> {
    const connection = new MqttConnection(options);
    const connected = new Promise<IConnackPacket>((resolve) => connection.#client.once("connect", resolve));
    connection.#connack = await connection.#within(connected, "no answer to CONNECT");
    return connection;
  }

  get isOpen(): boolean {
    return this.#failure === undefined;
  }

  /** Messages that may wait for their acknowledgement at once ([MQTT-3.3.4-9]). */
  get inFlightMax(): number {
    return Math.min(IN_FLIGHT_MAX, this.#connack?.properties?.receiveMaximum ?? IN_FLIGHT_MAX);
  }

  /** Publishes; with QoS 1 it resolves at the acknowledgement. Refused for what the broker says it can never take. */
  async publish({ topic, payload, qos, retain = false, contentType, userProperties }: MqttMessage): Promise<void> {
    const sizeBytesMax = this.#connack?.properties?.maximumPacketSize ?? Number.POSITIVE_INFINITY;
    // [MQTT-3.1.2-24]: a larger one must not be sent.
    if (payload.length + Buffer.byteLength(topic) + PUBLISH_BYTES > sizeBytesMax)
      throw new Refused(`${payload.length} bytes are more than the broker takes (${sizeBytesMax})`);
    const properties = this.#isFive
      ? {
          ...(contentType ? { contentType } : {}),
          ...(userProperties ? { userProperties: { ...userProperties } } : {}),
        }
      : undefined;
    const sent = new Promise<Packet | undefined>((resolve, reject) => {
      this.#client.publish(
        topic,
        Buffer.from(payload.buffer, payload.byteOffset, payload.length),
        {
          qos,
          retain,
          ...(properties ? { properties } : {}),
        },
        (error, packet) => (error ? reject(error) : resolve(packet)),
      );
    });
    await this.#within(sent, "no acknowledgement").catch((error: unknown) => {
      const reason = (error as { code?: unknown }).code;
      if (typeof reason !== "number") throw error;
      const said = `the broker refused a message to '${topic}', reason 0x${reason.toString(16)}`;
      throw FOR_GOOD.has(reason) ? new Refused(said) : fail(UNAVAILABLE, said);
    });
  }

  /** Subscribes with QoS 1; resolves at the acknowledgement: what was published before has been read by then. */
  async subscribe(topics: readonly string[]): Promise<void> {
    const subscribed = new Promise<void>((resolve, reject) => {
      this.#client.subscribe([...topics], { qos: 1 }, (error) => (error ? reject(error) : resolve()));
    });
    await this.#within(subscribed, "no acknowledgement of SUBSCRIBE");
  }

  /** Disconnects; the broker publishes no will. */
  async end(): Promise<void> {
    this.#failure ??= fail(UNAVAILABLE, "the connection was closed");
    await Promise.race([
      this.#client.endAsync(),
      new Promise((resolve) => setTimeout(resolve, this.#timeoutMs).unref()),
    ]);
    this.#client.end(true);
  }

  /** Waits for something, while the connection lasts and not for ever; what is late breaks the connection. */
  async #within<T>(work: Promise<T>, late: string): Promise<T> {
    const timer = setTimeout(
      () => this.#lose(fail(UNAVAILABLE, `${late} within ${this.#timeoutMs} ms`)),
      this.#timeoutMs,
    );
    work.catch(() => undefined);
    try {
      return await Promise.race([work, this.#gone.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  #lose(failure: Failure): void {
    this.#failure ??= failure;
    this.#gone.reject(this.#failure);
    this.#client.end(true);
  }
}
