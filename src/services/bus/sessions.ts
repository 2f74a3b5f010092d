/**
 * What MQTT clients leave with the broker: sessions, retained messages, wills; in memory, and bounded everywhere. It
 * is the
 * persistence that aedes asks for. A follower that must miss nothing uses `bus.follow`, which knows positions; an MQTT
 * session cannot (65,535 messages, no position), and ends with the bus.
 */
import { Readable } from "node:stream";
import { Retained } from "./retained.ts";
import { TopicTree } from "./topic-tree.ts";

/** Sessions that outlive their connection; a further one pushes out the one that was away longest. */
export const SESSIONS_MAX = 256;
/** Messages that wait for one session, and bytes for all; what comes then is not kept for the session, and counted. */
export const SESSION_MESSAGES_MAX = 1000;
export const SESSIONS_BYTES_MAX = 16 * 1024 * 1024;

interface ClientLike {
  readonly id: string;
}
interface Subscription {
  topic: string;
  qos: number;
  rh?: number;
  rap?: boolean;
  nl?: boolean;
}
export interface Stored {
  cmd?: string;
  topic: string;
  payload: Buffer;
  qos: number;
  retain: boolean;
  brokerId?: string | undefined;
  brokerCounter?: number;
  messageId?: number | undefined;
  clientId?: string;
}
interface Session {
  readonly id: string;
  readonly subscriptions: Map<string, Subscription>;
  /** By the broker's counter, which grows: in order. */
  readonly queue: Map<number, Stored>;
  /** Counter of a message by the packet id that it was sent with. */
  readonly sent: Map<number, number>;
  /** The client is back and gets what waited; until all is sent, what comes waits behind it. */
  replay: { next: () => void } | undefined;
}
type Refused = { sessions: number; messages: number; retained: number };

export interface SessionsOptions {
  readonly isConnected: (clientId: string) => boolean;
  /** aedes hands over what a client asked for, denied filters included: they are sorted out here again. */
  readonly maySubscribe: (client: ClientLike, filter: string) => boolean;
}

export class Sessions {
  readonly #options: SessionsOptions;
  readonly #sessions = new Map<string, Session>();
  readonly #byTopic = new TopicTree<Session>();
  readonly #retained = new Retained();
  readonly #wills = new Map<string, Stored>();
  readonly #incoming = new Map<string, Map<number, Stored>>();
  #broker = "";
  #queuedBytes = 0;
  readonly refused: Refused = { sessions: 0, messages: 0, retained: 0 };

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  async setup(broker: { id: string }): Promise<void> {
    this.#broker = broker.id;
  }

  async storeRetained(packet: Stored): Promise<void> {
    if (!this.#retained.store(packet)) this.refused.retained++;
  }

  createRetainedStreamCombi(filters: readonly string[]): Readable {
    return Readable.from(this.#retained.matching(filters));
  }

  async addSubscriptions(client: ClientLike, subscriptions: readonly Subscription[]): Promise<void> {
    const allowed = subscriptions.filter((s) => this.#options.maySubscribe(client, s.topic));
    if (allowed.length === 0) return;
    const session = this.#sessionOf(client.id);
    for (const { topic, qos, rh, rap, nl } of allowed) {
      this.#byTopic.remove(topic, session);
      if (qos > 0) this.#byTopic.add(topic, session);
      session.subscriptions.set(topic, {
        topic,
        qos,
        ...(rh === undefined ? {} : { rh }),
        ...(rap === undefined ? {} : { rap }),
        ...(nl === undefined ? {} : { nl }),
      });
    }
  }

  #sessionOf(id: string): Session {
    let session = this.#sessions.get(id);
    if (session) return session;
    if (this.#sessions.size >= SESSIONS_MAX) {
      const away = [...this.#sessions.keys()].find((other) => !this.#options.isConnected(other));
      this.#drop(away ?? this.#sessions.keys().next().value ?? "");
      this.refused.sessions++;
    }
    session = { id, subscriptions: new Map(), queue: new Map(), sent: new Map(), replay: undefined };
    this.#sessions.set(id, session);
    return session;
  }

  #drop(id: string): void {
    const session = this.#sessions.get(id);
    if (!session) return;
    for (const topic of session.subscriptions.keys()) this.#byTopic.remove(topic, session);
    for (const packet of session.queue.values()) this.#queuedBytes -= sizeOf(packet);
    this.#sessions.delete(id);
  }

  async removeSubscriptions(client: ClientLike, topics: readonly string[]): Promise<void> {
    const session = this.#sessions.get(client.id);
    if (!session) return;
    for (const topic of topics) {
      this.#byTopic.remove(topic, session);
      session.subscriptions.delete(topic);
    }
  }

  async subscriptionsByClient(client: ClientLike): Promise<Subscription[]> {
    const session = this.#sessions.get(client.id);
    if (!session) return [];
    // Seen again: moves to the end of those that may be pushed out.
    this.#sessions.delete(client.id);
    this.#sessions.set(client.id, session);
    session.replay = { next: noop };
    return [...session.subscriptions.values()];
  }

  /** A clean session begins: what an earlier one left is gone ([MQTT-3.1.2-6]). */
  async cleanSubscriptions(client: ClientLike): Promise<void> {
    this.#drop(client.id);
  }

  async subscriptionsByTopic(topic: string): Promise<{ clientId: string; topic: string }[]> {
    return [...this.#byTopic.match(topic)].map((session) => ({ clientId: session.id, topic }));
  }

  async outgoingEnqueueCombi(subscriptions: readonly { clientId: string }[], packet: Stored): Promise<void> {
    for (const { clientId } of subscriptions) this.#enqueue(clientId, packet);
  }

  async outgoingEnqueue(subscription: { clientId: string }, packet: Stored): Promise<void> {
    this.#enqueue(subscription.clientId, packet);
  }

  /** Keeps a message for every session with a matching filter of QoS 1 or 2. */
  enqueueFor(packet: Stored): void {
    for (const session of this.#byTopic.match(packet.topic)) this.#enqueue(session.id, packet);
  }

  #enqueue(id: string, packet: Stored): void {
    const session = this.#sessions.get(id);
    if (!session) return;
    if (session.queue.size >= SESSION_MESSAGES_MAX || this.#queuedBytes + sizeOf(packet) > SESSIONS_BYTES_MAX) {
      this.refused.messages++;
      return;
    }
    const { topic, payload, qos, retain, brokerId, brokerCounter } = packet;
    const kept = {
      cmd: "publish",
      topic,
      payload: Buffer.from(payload),
      qos,
      retain,
      brokerId,
      brokerCounter: brokerCounter ?? 0,
      messageId: undefined,
    };
    this.#queuedBytes += sizeOf(kept);
    session.queue.set(kept.brokerCounter, kept);
  }

  /** Notes the packet id that a message is sent with, or that a PUBREL took its place. */
  async outgoingUpdate(client: ClientLike, packet: Stored): Promise<void> {
    const session = this.#sessions.get(client.id);
    const counter = packet.cmd === "pubrel" ? session?.sent.get(packet.messageId ?? 0) : packet.brokerCounter;
    const found = session?.queue.get(counter ?? 0);
    // The queue was full when it came: the connection ends here, and what is queued comes with the next one.
    if (!session || !found) throw new Error("the session's queue is full");
    if (packet.cmd === "pubrel") {
      this.#queuedBytes -= found.payload.length;
      session.queue.set(counter ?? 0, { ...found, cmd: "pubrel", payload: Buffer.alloc(0) });
    } else {
      found.messageId = packet.messageId;
      session.sent.set(packet.messageId ?? 0, packet.brokerCounter ?? 0);
    }
    session.replay?.next();
  }

  /** Takes a message out that was acknowledged, or (not sent at all) that its client does not get. */
  async outgoingClearMessageId(client: ClientLike, packet: Stored): Promise<Stored | undefined> {
    const session = this.#sessions.get(client.id);
    if (!session || this.waitsForReplay(client.id, packet)) return undefined;
    const counter = packet.messageId === undefined ? packet.brokerCounter : session.sent.get(packet.messageId);
    const found = session.queue.get(counter ?? 0);
    if (!found) return undefined;
    session.queue.delete(counter ?? 0);
    if (found.messageId !== undefined) session.sent.delete(found.messageId);
    this.#queuedBytes -= sizeOf(found);
    session.replay?.next();
    return found;
  }

  /**
   * Tells whether a live message has to wait behind those that its session is being sent ([MQTT-4.6.0-6]: in order).
   */
  waitsForReplay(id: string, packet: Stored): boolean {
    const session = this.#sessions.get(id);
    return (
      session?.replay !== undefined && packet.messageId === undefined && session.queue.has(packet.brokerCounter ?? 0)
    );
  }

  outgoingStream(client: ClientLike): Readable {
    const session = this.#sessions.get(client.id);
    return Readable.from(session ? replay(session) : []);
  }

  // QoS 2, the receiver's side; aedes bounds how many of a client are half way (maxInflightInbound).
  async incomingStorePacket(client: ClientLike, packet: Stored): Promise<void> {
    let store = this.#incoming.get(client.id);
    if (!store) {
      // Of sessions that never came back; a live one past this many loses only the memory of what it sent twice.
      if (this.#incoming.size >= SESSIONS_MAX * 2) this.#incoming.delete(this.#incoming.keys().next().value ?? "");
      this.#incoming.set(client.id, (store = new Map<number, Stored>()));
    }
    store.set(packet.messageId ?? 0, { ...packet, payload: Buffer.alloc(0) });
  }

  async incomingGetPacket(client: ClientLike, packet: Stored): Promise<Stored> {
    const found = this.#incoming.get(client.id)?.get(packet.messageId ?? 0);
    if (!found) throw new Error("no such packet");
    return found;
  }

  async incomingDelPacket(client: ClientLike, packet: Stored): Promise<void> {
    const store = this.#incoming.get(client.id);
    if (!store?.delete(packet.messageId ?? 0)) throw new Error("no such packet");
    if (store.size === 0) this.#incoming.delete(client.id);
  }

  async cleanIncoming(client: ClientLike): Promise<void> {
    this.#incoming.delete(client.id);
  }

  async putWill(client: ClientLike, will: Stored): Promise<void> {
    will.brokerId = this.#broker;
    will.clientId = client.id;
    this.#wills.set(client.id, will);
  }

  async getWill(client: ClientLike): Promise<Stored | undefined> {
    return this.#wills.get(client.id);
  }

  async delWill(client: ClientLike): Promise<Stored | undefined> {
    const will = this.#wills.get(client.id);
    this.#wills.delete(client.id);
    return will;
  }

  streamWill(brokers: Readonly<Record<string, number>> = {}): Readable {
    return Readable.from([...this.#wills.values()].filter((will) => brokers[will.brokerId ?? ""] === undefined));
  }
}

const noop = (): void => undefined;

/** Gives one message after the other, each once the one before it is on its way, and those too that come meanwhile. */
async function* replay(session: Session): AsyncGenerator<Stored> {
  const own = (session.replay ??= { next: noop });
  for (const [counter, packet] of session.queue) {
    const sent = new Promise<void>((resolve) => (own.next = resolve));
    // [MQTT-3.3.1-1]: sent before, and not acknowledged.
    yield packet.messageId === undefined ? packet : ({ ...packet, dup: true } as Stored);
    if (session.queue.has(counter)) await sent;
  }
  if (session.replay === own) session.replay = undefined;
}

const sizeOf = (packet: Stored): number => packet.payload.length + packet.topic.length + 64;
