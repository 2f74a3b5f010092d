/**
 * Sends batches as a Sparkplug B edge node. Sparkplug wants its data with QoS 0, which nobody acknowledges: behind the data of
 * a send the STATE (or command) topic is subscribed to once more. A broker reads a connection in order, so its answer says
 * that it has read the data; and the retained STATE that comes with it says that the primary host is still there.
 */
import { decodeBlocks } from "../../../../kernel/events/codec.ts";
import { fail, UNAVAILABLE } from "../../../../kernel/error.ts";
import type { SparkplugConfig } from "../config.ts";
import { Refused } from "../delivery.ts";
import { MqttConnection } from "../mqtt-connection.ts";
import type { BatchToSend, Bytes, Lane, Refusal, Sender, Sent } from "../sender.ts";
import type { SenderOptions } from "../senders.ts";
import { SharedConnection } from "../shared-connection.ts";
import { Meter, placeOf } from "../wire.ts";
import { EdgeNode, REBIRTH, type SparkplugMessage } from "./edge-node.ts";
import { decodePayload, PayloadError } from "./payload.ts";

/** How often the devices are looked at for one that has fallen silent, in parts of the silence. */
const LOOKS = 4;

/** Makes the sender. PIPELINE_DESTINATION_INVALID. */
export function makeSparkplugSender(options: SenderOptions<SparkplugConfig>): Sender {
  return new SparkplugSender(options);
}

class SparkplugSender implements Sender {
  readonly #o: SenderOptions<SparkplugConfig>;
  readonly #meter = new Meter();
  readonly #edge: EdgeNode;
  readonly #shared: SharedConnection<MqttConnection>;
  readonly #stateTopic: string | undefined;
  readonly #looking: NodeJS.Timeout | undefined;
  #host = { isOnline: false, timestampMs: 0 };
  /** Who publishes waits for the one before: sequence numbers travel in order, and births before data. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: SenderOptions<SparkplugConfig>) {
    const { config, node, clock, way, secrets, name } = options;
    this.#o = options;
    const { groupId, edgeNodeId = node, primaryHostId, deviceSilenceMs } = config;
    const wallMs = () => clock.wallMs();
    this.#edge = new EdgeNode({ groupId, edgeNodeId, wallMs, monotonicMs: () => clock.monotonicMs() });
    this.#stateTopic = primaryHostId === undefined ? undefined : `spBv1.0/STATE/${primaryHostId}`;
    const place = placeOf({ ...config, url: way?.url ?? config.url, secrets, localAddress: way?.localAddress });
    const clientId = config.clientId ?? `holdfast-${node}-${name}`;
    this.#shared = new SharedConnection(() => this.#open({ config, clientId, place, secrets }));
    if (deviceSilenceMs > 0) this.#looking = setInterval(() => void this.#bury(), deviceSilenceMs / LOOKS).unref();
  }

  get bytes(): Bytes {
    return this.#meter.bytes;
  }

  send(lane: Lane, batches: readonly BatchToSend[], signal: AbortSignal): Promise<Sent> {
    return this.#inTurn(() => this.#send(lane, batches, signal));
  }

  async close(): Promise<void> {
    clearInterval(this.#looking);
    await this.#inTurn(async () => {
      const connection = this.#shared.current;
      // A disconnect that is meant keeps the broker from publishing the will (5.5).
      if (connection && this.#edge.isBorn)
        await this.#publish(connection, [this.#edge.death()], 1).catch(() => undefined);
      await this.#shared.close();
    });
  }

  async #open(options: Omit<Parameters<typeof MqttConnection.open>[0], "meter" | "will">): Promise<MqttConnection> {
    const connection = await MqttConnection.open({
      ...options,
      meter: this.#meter,
      will: this.#edge.begin(),
      onMessage: (topic, payload) => this.#take(topic, payload),
    });
    this.#host = { isOnline: false, timestampMs: 0 };
    await connection.subscribe([
      this.#edge.topic("NCMD"),
      ...(this.#stateTopic === undefined ? [] : [this.#stateTopic]),
    ]);
    // What is retained comes behind the answer to the first, and so before that to a second.
    await this.#fence(connection);
    return connection;
  }

  async #send({ kind }: Lane, batches: readonly BatchToSend[], signal: AbortSignal): Promise<Sent> {
    signal.throwIfAborted();
    const connection = await this.#shared.get();
    this.#requireHost();
    if (!this.#edge.isBorn) await this.#publish(connection, this.#edge.births());
    const refused: Refusal[] = [];
    for (const { sequence, blocks } of batches) {
      const reason = await this.#sendOne(connection, blocks, kind === "backlog");
      if (reason !== undefined) refused.push({ sequence, reason });
    }
    await this.#fence(connection);
    this.#requireHost();
    return { durable: batches.at(-1)?.sequence ?? 0, refused };
  }

  /** Sends a batch; gives the reason where nobody can ever take it. */
  async #sendOne(connection: MqttConnection, bytes: Uint8Array, isHistorical: boolean): Promise<string | undefined> {
    let blocks;
    try {
      blocks = decodeBlocks(bytes);
    } catch (error) {
      return `the batch cannot be read: ${error instanceof Error ? error.message : String(error)}`;
    }
    try {
      await this.#publish(connection, this.#edge.data(blocks, isHistorical));
    } catch (error) {
      if (error instanceof Refused) return error.message;
      throw error;
    }
    return undefined;
  }

  /** Waits until the broker has read all that was published; a change of the host's STATE before that has come by then. */
  async #fence(connection: MqttConnection): Promise<void> {
    await connection.subscribe([this.#stateTopic ?? this.#edge.topic("NCMD")]);
  }

  /** UNAVAILABLE while the primary host is offline. */
  #requireHost(): void {
    if (this.#stateTopic === undefined || this.#host.isOnline) return;
    const { primaryHostId } = this.#o.config;
    throw fail(UNAVAILABLE, `the primary host '${primaryHostId}' is not online (${this.#stateTopic})`);
  }

  async #publish(connection: MqttConnection, messages: Iterable<SparkplugMessage>, qos: 0 | 1 = 0): Promise<void> {
    for (const message of messages) await connection.publish({ ...message, qos });
  }

  #take(topic: string, payload: Uint8Array): void {
    const { log, name } = this.#o;
    try {
      if (topic === this.#stateTopic) this.#takeState(JSON.parse(Buffer.from(payload).toString()) as object);
      else if (isRebirth(payload)) void this.#rebirth();
    } catch (error) {
      if (!(error instanceof PayloadError || error instanceof SyntaxError)) throw error;
      log.warn({ destination: name, topic, err: error.message }, "a message to the edge node cannot be read");
    }
  }

  #takeState(state: { readonly online?: unknown; readonly timestamp?: unknown } | null): void {
    const timestampMs = typeof state?.timestamp === "number" ? state.timestamp : 0;
    // An older word than the last is a late one (Sparkplug 3.0, 5.4.2).
    if (timestampMs < this.#host.timestampMs) return;
    const wasOnline = this.#host.isOnline;
    this.#host = { isOnline: state?.online === true, timestampMs };
    if (!wasOnline || this.#host.isOnline) return;
    // An edge node whose host is gone dies and begins anew (5.4.4).
    void this.#inTurn(async () => {
      const connection = this.#shared.current;
      if (!connection || this.#host.isOnline) return;
      if (this.#edge.isBorn) await this.#publish(connection, [this.#edge.death()], 1);
      await connection.end();
    }).catch(() => undefined);
  }

  #rebirth(): Promise<void> {
    return this.#inTurn(async () => {
      const connection = this.#shared.current;
      if (connection && this.#edge.isBorn) await this.#publish(connection, this.#edge.births());
    }).catch(() => undefined);
  }

  #bury(): Promise<void> {
    return this.#inTurn(async () => {
      const connection = this.#shared.current;
      if (connection) await this.#publish(connection, this.#edge.deaths(this.#o.config.deviceSilenceMs));
    }).catch(() => undefined);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }
}

/** Tells whether a command asks for births (6.4.14). */
const isRebirth = (payload: Uint8Array): boolean =>
  decodePayload(payload).metrics.some(({ name, value }) => name === REBIRTH && value === true);
