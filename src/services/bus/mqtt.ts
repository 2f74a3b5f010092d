/** The bus's doors for MQTT 3.1.1: TLS with the node's certificates, and plain loopback for EdgeX's own software. */
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { type AedesPublishPacket, Aedes, type Client, type PublishPacket, type Subscription } from "aedes";
import { asFailure } from "../../kernel/error.ts";
import { mayReach } from "../../kernel/identity/needs.ts";
import { peerDevice, peerName } from "../../kernel/identity/peer.ts";
import type { TlsIdentity } from "../../kernel/identity/tls.ts";
import type { Subject } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import type { Log } from "../../kernel/log.ts";
import type { ListenAt } from "../../kernel/serve.ts";
import { BUS_FULL } from "./api.ts";
import { Framing } from "./framing.ts";
import type { Packet } from "./hub.ts";
import { Occasional } from "./occasional.ts";
import type { BusService, Sender } from "./service.ts";
import { Sessions, type Stored } from "./sessions.ts";
import { isJournalled, mayDeviceUse, mayUse, TOPIC_LEVELS_MAX } from "./topics.ts";

/** Connections of one door; a further one is closed at once. */
export const CLIENTS_MAX = 256;
/** With so many clients there is no room for persons: the rest is for services. */
const PERSONS_MAX = 128;
/** Filters of one client; a further one is answered with failure (0x80). */
export const SUBSCRIPTIONS_MAX = 100;
/** Longest client id (EdgeX's are service names). */
const CLIENT_ID_MAX = 256;
/**
 * Bytes that wait in a slow client's socket: then QoS 0 is left out for it, and a client with a session is cut off and
 * gets its queue when it is back.
 */
const SOCKET_BYTES_MAX = 1024 * 1024;
/** QoS 2 messages of one client half way. */
const INFLIGHT_MAX = 100;
/**
 * MQTT 3.1.1 knows no refusal of a message: while the journal is full its client is kept waiting so long, then cut off
 * unacknowledged.
 */
const FULL_WAIT_MS = 20_000;
const FULL_RETRY_MS = 250;
const CONNECT_TIMEOUT_MS = 10_000;
const DRAIN_TIMEOUT_MS = 30_000;

export interface MqttOptions {
  readonly bus: BusService;
  readonly clock: Clock;
  readonly log: Log;
  readonly stopping: AbortSignal;
}

/** What aedes has beyond its types. */
type Inner = Client & { duplicates: object; subscriptions: Record<string, unknown> };
type Broker = Aedes & { counter: number; readonly clients: object };

const NOT_AUTHORIZED = 5;
const IDENTIFIER_REJECTED = 2;
const refusal = (returnCode: number, message: string) => Object.assign(new Error(message), { returnCode });

/** Begins the role of a device that has a certificate of its own; no service's name has a slash. */
const DEVICE = "device/";

export class MqttDoors {
  readonly #options: MqttOptions;
  readonly #senders = new WeakMap<object, Sender>();
  readonly #roles = new WeakMap<object, string>();
  /** Names of those who came in at the gateway. */
  readonly #persons = new WeakMap<object, string>();
  readonly #broker: Broker;
  readonly #sessions: Sessions;
  readonly #servers: Server[] = [];
  readonly #slow: Occasional;
  readonly #refusals: Occasional;
  /** QoS 0 messages that slow clients did not get. */
  skipped = 0;

  private constructor(options: MqttOptions) {
    this.#options = options;
    this.#slow = new Occasional(options.clock);
    this.#refusals = new Occasional(options.clock);
    this.#sessions = new Sessions({
      isConnected: (id) => id in this.#broker.clients,
      maySubscribe: (client, filter) => this.#may(client as Client, "subscribe", filter),
    });
    this.#broker = new Aedes({
      mq: options.bus.hub,
      persistence: this.#sessions,
      connectTimeout: CONNECT_TIMEOUT_MS,
      drainTimeout: DRAIN_TIMEOUT_MS,
      maxInflightInbound: INFLIGHT_MAX,
      maxClientsIdLength: CLIENT_ID_MAX,
      maxTopicLevels: TOPIC_LEVELS_MAX,
      preConnect: (client, packet, done) => {
        this.#neverTakeForDuplicates(client as Inner);
        this.#ownId(client, packet);
        done(
          packet.clientId.length > CLIENT_ID_MAX ? refusal(IDENTIFIER_REJECTED, "the client id is too long") : null,
          packet.clientId.length <= CLIENT_ID_MAX,
        );
      },
      authenticate: (client, _user, _password, done) => this.#authenticate(client, done),
      authorizePublish: (client, packet, done) => void this.#authorizePublish(client, packet, done),
      authorizeSubscribe: (client, subscription, done) => done(null, this.#admit(client as Inner, subscription)),
      authorizeForward: (client, packet) => this.#forward(client, packet),
    }) as Broker;
    this.#broker.on("clientError", (client, error) =>
      options.log.info({ client: client.id, err: error.message }, "an MQTT client's connection ended with an error"),
    );
    this.#broker.on("connectionError", (_client, error) =>
      options.log.debug({ err: error.message }, "an MQTT connection failed"),
    );
    options.bus.hub.beforePublish = (packet) => this.#keepForSessions(packet);
  }

  static async open(options: MqttOptions): Promise<MqttDoors> {
    const doors = new MqttDoors(options);
    await doors.#broker.listen();
    return doors;
  }

  get clients(): number {
    return this.#broker.connectedClients;
  }

  /** Opens the door for whoever has a certificate of the node; answers the port. */
  async serveTls(at: ListenAt, identity: TlsIdentity): Promise<number> {
    const server = createTlsServer(identity.serverOptions(), (socket: TLSSocket) => {
      const name = peerName(socket);
      const device = peerDevice(socket);
      // Another node's service is nobody here, whatever its name.
      if (name?.node === identity.node && mayReach(name.needs, identity.service)) this.#welcome(socket, name.service);
      else if (device?.node === identity.node) this.#welcome(socket, `${DEVICE}${device.device}`);
      else socket.destroy();
    });
    identity.attach(server);
    server.on("tlsClientError", (error) =>
      this.#options.log.debug({ err: error.message }, "an MQTT connection failed its handshake"),
    );
    return this.#listen(server, at);
  }

  /** Opens the loopback door of `--open-edgex`; answers the port. */
  servePlain(at: ListenAt): Promise<number> {
    return this.#listen(
      createServer((socket) => this.#welcome(socket, "open-edgex")),
      at,
    );
  }

  /** Takes a person's connection that came in at the gateway: with its rights, and an id that is nobody else's. */
  welcomePerson(socket: Socket, subject: Subject | undefined): void {
    if (this.clients >= PERSONS_MAX) return void socket.destroy();
    this.#welcome(socket, "gateway", subject?.name ?? "");
  }

  async #listen(server: Server, at: ListenAt): Promise<number> {
    server.maxConnections = CLIENTS_MAX;
    this.#servers.push(server);
    await new Promise<void>((resolve, reject) =>
      server.once("error", reject).listen("fd" in at ? { fd: at.fd } : at, resolve),
    );
    const address = server.address();
    return typeof address === "object" && address ? address.port : 0;
  }

  #welcome(socket: Socket, role: string, person?: string): void {
    socket.setNoDelay(true);
    const framing = new Framing();
    const read = socket.read.bind(socket);
    // aedes' parser takes packets of any size, 256 MB each; what it reads passes here first.
    socket.read = (size?: number): unknown => {
      const chunk = read(size) as Buffer | null;
      if (chunk === null || framing.accepts(chunk)) return chunk;
      socket.destroy(new Error("an MQTT packet is larger than allowed"));
      return null;
    };
    const client = this.#broker.handle(socket);
    this.#roles.set(client, role);
    if (person !== undefined) this.#persons.set(client, person);
  }

  /** A person who calls his client as a service's would end that one's connection, and get what waits for it. */
  #ownId(client: Client, packet: { clientId: string }): void {
    const person = this.#persons.get(client);
    if (person !== undefined && packet.clientId !== "") packet.clientId = `~${person}/${packet.clientId}`;
  }

  #authenticate(
    client: Client,
    done: (error: (Error & { returnCode: number }) | null, success: boolean | null) => void,
  ): void {
    const role = this.#roles.get(client);
    if (role === undefined) return done(refusal(NOT_AUTHORIZED, "the client has no role"), null);
    this.#senders.set(client, { role, id: role === "open-edgex" ? client.id : role });
    done(null, true);
  }

  #may(client: Client, action: "publish" | "subscribe", topic: string): boolean {
    const sender = this.#senders.get(client);
    const device = sender?.role.startsWith(DEVICE) ? sender.role.slice(DEVICE.length) : undefined;
    if (device === undefined ? sender && mayUse(sender.role, action, topic) : mayDeviceUse(device, action, topic))
      return true;
    const unsaid = this.#refusals.mayHappen();
    if (unsaid !== undefined)
      this.#options.log.warn(
        { client: sender?.id, action, topic: topic.slice(0, 300), unsaid },
        "an MQTT client was denied a topic",
      );
    return false;
  }

  async #authorizePublish(
    client: Client | null,
    packet: PublishPacket,
    done: (error: Error | null) => void,
  ): Promise<void> {
    let refused: Error | null = null;
    try {
      await this.#take(client, packet);
    } catch (error) {
      refused = asFailure(error);
    }
    done(refused);
  }

  /**
   * Takes a message before it is acknowledged; the one hook before PUBACK. Rejecting ends the connection
   * ([MQTT-3.3.5-2]).
   */
  async #take(client: Client | null, packet: PublishPacket): Promise<void> {
    const sender = client && this.#senders.get(client);
    if (!client || !sender || !this.#may(client, "publish", packet.topic))
      throw new Error(`publishing to '${packet.topic.slice(0, 200)}' is not allowed`);
    // An empty retained message only clears what was retained ([MQTT-3.3.1-11]).
    if (!isJournalled(packet.topic) || (packet.retain && packet.payload.length === 0)) return;
    const payload = typeof packet.payload === "string" ? Buffer.from(packet.payload) : packet.payload;
    const { bus, clock, stopping } = this.#options;
    const untilMs = clock.monotonicMs() + FULL_WAIT_MS;
    for (;;) {
      try {
        return await bus.takeMessage(sender, packet.topic, payload);
      } catch (error) {
        const isFull = asFailure(error).code === BUS_FULL.code;
        if (!isFull || client.closed || stopping.aborted || clock.monotonicMs() > untilMs) throw error;
        await new Promise((resolve) => setTimeout(resolve, FULL_RETRY_MS));
      }
    }
  }

  #admit(client: Inner, subscription: Subscription): Subscription | null {
    const isNew = !(subscription.topic in client.subscriptions);
    if (isNew && Object.keys(client.subscriptions).length >= SUBSCRIPTIONS_MAX) return null;
    return this.#may(client, "subscribe", subscription.topic) ? subscription : null;
  }

  #forward(client: Client, packet: AedesPublishPacket): AedesPublishPacket | null {
    if (packet.qos > 0 && !client.clean && this.#sessions.waitsForReplay(client.id, packet as unknown as Stored))
      return null;
    if ((client.conn as Socket).writableLength <= SOCKET_BYTES_MAX) return packet;
    const unsaid = this.#slow.mayHappen();
    if (unsaid !== undefined) this.#options.log.warn({ client: client.id, unsaid }, "an MQTT client reads too slowly");
    if (packet.qos === 0 || client.clean) {
      this.skipped++;
      return null;
    }
    // Its session has the message: it comes with the next connection.
    client.conn.destroy(new Error("the client reads too slowly"));
    return packet;
  }

  /**
   * aedes takes a message that a later one has overtaken (QoS 0 is faster than QoS 1) for a duplicate, and loses it.
   * What
   * is to be told apart is one message that matches two filters of a client: that happens within one emission.
   */
  #neverTakeForDuplicates(client: Inner): void {
    const { hub } = this.#options.bus;
    let last = 0;
    client.duplicates = Object.defineProperty({}, this.#broker.id, {
      get: () => (last === hub.emission ? Number.POSITIVE_INFINITY : 0),
      set: () => (last = hub.emission),
    });
  }

  /** A message of ours to a session that is away, as aedes does for those of clients. */
  #keepForSessions(packet: Packet): void {
    packet.qos = 1;
    packet.brokerId = this.#broker.id;
    packet.brokerCounter = ++this.#broker.counter;
    this.#sessions.enqueueFor(packet);
  }

  async close(): Promise<void> {
    for (const server of this.#servers) server.close();
    await new Promise<void>((resolve) => this.#broker.close(resolve));
  }
}
