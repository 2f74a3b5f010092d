/** The door for constrained devices: CoAP over UDP (RFC 7252), asking for routes of the file that say `coap`. */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { asFailure } from "../../../kernel/error.ts";
import type { ListenAt } from "../../../kernel/serve.ts";
import { noteRequest } from "../access-log.ts";
import { type PassageOptions, statusOf } from "../passage.ts";
import type { Handler, Visit } from "../visit.ts";
import { inWords, option, type Said, saidOf } from "./answer.ts";
import { type Block, Bodies, BODY_BYTES_MAX, EXPONENT_MAX, Kept, readBlock, sizeOf, writeBlock } from "./blocks.ts";
import { Exchanges, type Peer } from "./exchanges.ts";
import { type Observation, Observers } from "./observers.ts";
import { EMPTY, type Packet, readPacket, TYPE, uintOf, writePacket } from "./packet.ts";
import { checkRequest, keyOf, methodOf, Refused, valuesOf, visitOf } from "./request.ts";
import { CODE, codeOfStatus, OPTION } from "./terms.ts";

export interface CoapOptions extends Omit<PassageOptions, "handle"> {
  readonly listen: ListenAt;
  /** Answers what comes by CoAP. */
  readonly handle: Handler;
}

/** An answer that takes longer comes by itself, after its request was acknowledged (RFC 7252 5.2.2). */
const PIGGYBACK_MS = 500;
/** Requests of devices under way; a further one is told to come again. */
const RUNNING_MAX = 128;
/** An address that is not believed yet gets about so many times what it has sent (RFC 7252 11.3), and never less than a small block. */
const AMPLIFICATION_MAX = 3;
/** 64 bytes: most of what devices ask for fits. */
const STRANGER_EXPONENT = 2;
/** Header, token and options of an answer. */
const OVERHEAD_BYTES = 24;
const NONE = Buffer.alloc(0);
/** RFC 7641 2. */
const REGISTER = 0;
const DEREGISTER = 1;

interface Asked extends Observation {
  /** Of the datagram. */
  readonly bytes: number;
}

export class CoapDoor {
  readonly #o: CoapOptions;
  readonly #socket: Socket;
  readonly #exchanges: Exchanges;
  readonly #bodies: Bodies;
  /** Answers whose further blocks may be asked for. */
  readonly #answers: Kept<Said>;
  readonly #observers: Observers;
  #running = 0;

  constructor(options: CoapOptions) {
    const { clock, log } = options;
    this.#o = options;
    // What is sent to is an address: no name is looked up.
    this.#socket = createSocket({ type: "udp4", lookup: (host, _, done) => done(null, host, 4) });
    const send = (bytes: Buffer, { address, port }: Peer) => this.#socket.send(bytes, port, address, () => undefined);
    this.#exchanges = new Exchanges({ clock, send });
    this.#bodies = new Bodies(clock);
    this.#answers = new Kept(clock);
    this.#observers = new Observers({
      clock,
      ask: async ({ packet, peer }) =>
        this.#running < RUNNING_MAX && !options.load.draining
          ? this.#counted(() => this.#run(packet, NONE, peer, true))
          : undefined,
      tell: (observation, said, over) =>
        this.#confirm(observation, this.#cut({ ...observation, bytes: 0 }, said), over),
    });
    this.#socket.on("message", (bytes, peer) => this.#take(bytes, peer));
    this.#socket.on("error", (error) => log.warn({ err: error.message }, "the CoAP door has an error"));
  }

  /** Listens; rejects where that cannot be. Tells the port. */
  async listen(): Promise<number> {
    const { listen } = this.#o;
    if ("path" in listen) throw new Error("CoAP is not spoken over a path");
    // With a descriptor it is told at once.
    const listening = once(this.#socket, "listening");
    this.#socket.bind("fd" in listen ? { fd: listen.fd } : { port: listen.port, address: listen.host });
    await listening;
    return this.#socket.address().port;
  }

  close(): void {
    this.#observers.close();
    this.#exchanges.close();
    this.#socket.close();
  }

  #take(bytes: Buffer, peer: Peer): void {
    const packet = readPacket(bytes);
    if (!packet) return;
    const { type, id } = packet;
    if (type === TYPE.acknowledgement || type === TYPE.reset)
      return this.#exchanges.acknowledged(peer, id, type === TYPE.reset);
    const isRequest = !("malformed" in packet) && packet.code !== EMPTY && packet.code >> 5 === 0;
    if (!isRequest) {
      // RFC 7252 4.2, 4.3: an empty message is a ping; what cannot be processed is rejected; the rest goes by in silence.
      if (type === TYPE.confirmable) this.#exchanges.answer(peer, id, empty(TYPE.reset, id));
      return;
    }
    if (this.#exchanges.begin(peer, id)) void this.#answer({ packet, peer, bytes: bytes.length });
  }

  async #answer(asked: Asked): Promise<void> {
    const { packet, peer } = asked;
    const confirmable = packet.type === TYPE.confirmable;
    let acknowledged = false;
    const acknowledge = () => {
      acknowledged = true;
      this.#exchanges.answer(peer, packet.id, empty(TYPE.acknowledgement, packet.id));
    };
    const timer = confirmable ? setTimeout(acknowledge, PIGGYBACK_MS) : undefined;
    const whole = await this.#say(asked);
    const observed = this.#observed(asked, whole);
    const said = this.#cut(asked, observed);
    clearTimeout(timer);
    const { token } = packet;
    if (!confirmable) {
      const id = this.#exchanges.nextId();
      return this.#exchanges.answer(peer, packet.id, writePacket({ ...said, type: TYPE.nonConfirmable, id, token }));
    }
    // Who asks for more than a little shows that the address is his: by acknowledging what only he can have got.
    const isMore = said.isLarge || observed !== whole;
    if (isMore && !this.#exchanges.believes(peer) && !acknowledged) acknowledge();
    if (!acknowledged) {
      const bytes = writePacket({ ...said, type: TYPE.acknowledgement, id: packet.id, token });
      return this.#exchanges.answer(peer, packet.id, bytes);
    }
    this.#confirm(asked, said, (arrived) => !arrived && this.#observers.remove(asked));
  }

  /** RFC 7641 4.1: begins or ends to observe, where that is asked for and the address is, or will be, believed. */
  #observed(asked: Asked, said: Said): Said {
    const { packet, peer } = asked;
    const [value] = valuesOf(packet, OPTION.observe);
    const observe = value && methodOf(packet) === "GET" ? uintOf(value, 3) : undefined;
    if (observe === DEREGISTER) this.#observers.remove(asked);
    if (observe !== REGISTER || said.code !== CODE.content) return said;
    const provable = packet.type === TYPE.confirmable || this.#exchanges.believes(peer);
    return provable ? this.#observers.add(asked, said) : said;
  }

  #confirm({ packet, peer }: Observation, said: Said, over: (acknowledged: boolean) => void): void {
    const id = this.#exchanges.nextId();
    const { token } = packet;
    this.#exchanges.confirm(peer, id, writePacket({ ...said, type: TYPE.confirmable, id, token }), over);
  }

  /** What is answered, whole. */
  async #say(asked: Asked): Promise<Said> {
    const { load } = this.#o;
    if (this.#running >= RUNNING_MAX || load.draining)
      return inWords(CODE.unavailable, "come again", [option(OPTION.maxAge, 1)]);
    return this.#counted(async () => {
      checkRequest(asked.packet);
      return this.#sayTo(asked);
    });
  }

  async #counted(work: () => Promise<Said>): Promise<Said> {
    const { load } = this.#o;
    this.#running++;
    load.running++;
    try {
      return await work();
    } catch (error) {
      if (error instanceof Refused) return inWords(error.code, error.message);
      this.#o.log.error({ err: error }, "a request by CoAP failed");
      return inWords(CODE.internal, "the gateway failed");
    } finally {
      this.#running--;
      load.running--;
    }
  }

  async #sayTo({ packet, peer }: Asked): Promise<Said> {
    const key = keyOf(packet, peer);
    const block2 = blockIn(packet, OPTION.block2);
    if (block2 && block2.number > 0) {
      const kept = this.#answers.get(key);
      if (kept) return kept;
      // Asked anew it would be done anew.
      if (methodOf(packet) !== "GET") throw new Refused(CODE.incomplete, "the answer is not kept any more");
    }
    const block1 = blockIn(packet, OPTION.block1);
    if (!block1) return this.#run(packet, packet.payload, peer);
    const taken = this.#bodies.take(key, block1, packet.payload);
    const echo = { number: OPTION.block1, value: writeBlock(block1) };
    if (taken === "continue") return { code: CODE.continue, options: [echo], payload: NONE };
    if ("body" in taken) {
      const said = await this.#run(packet, taken.body, peer);
      return { ...said, options: [...said.options, echo] };
    }
    if (taken.refused === "tooLarge")
      return inWords(CODE.tooLarge, "the body is too large", [option(OPTION.size1, BODY_BYTES_MAX)]);
    return inWords(CODE.incomplete, "a block of the body is missing");
  }

  async #run(packet: Packet, body: Buffer, peer: Peer, quiet = false): Promise<Said> {
    const visit = visitOf(packet, body, peer, this.#o.clock);
    visit.quiet = quiet;
    try {
      const reply = await this.#o.handle(visit);
      const said = await saidOf(reply, visit);
      noteRequest(this.#o, { visit, failure: undefined, status: reply.status, bytes: said.payload.length });
      return said;
    } catch (error) {
      return this.#refuse(visit, error);
    } finally {
      visit.ticket?.stop();
    }
  }

  #refuse(visit: Visit, error: unknown): Said {
    const failure = asFailure(error);
    const status = statusOf(failure);
    if (failure.kind === "internal") this.#o.log.error({ requestId: visit.requestId, err: error }, failure.message);
    noteRequest(this.#o, { visit, failure, status, bytes: 0 });
    // RFC 7252 5.9.3.4: so long it is not asked again.
    const options = [option(OPTION.maxAge, failure.retryAfterS ?? 0)];
    return inWords(codeOfStatus(status, visit.method), failure.message, options);
  }

  /** The block that is asked for, or the first where an answer is larger than one (RFC 7959 2.4). */
  #cut({ packet, peer, bytes }: Asked, said: Said): Said & { readonly isLarge: boolean } {
    const asked = safeBlock(packet);
    const exponent = Math.min(asked?.exponent ?? EXPONENT_MAX, this.#exponentFor(peer, bytes));
    const from = asked ? asked.number * sizeOf(asked.exponent) : 0;
    const { payload, options } = said;
    const isLarge = payload.length > sizeOf(exponent);
    if (!isLarge && !asked) return { ...said, isLarge };
    if (from > 0 && from >= payload.length)
      return { ...inWords(CODE.badOption, "there is no such block"), isLarge: false };
    const to = from + sizeOf(exponent);
    const more = to < payload.length;
    if (more) this.#answers.put(keyOf(packet, peer), said);
    const block = { number: OPTION.block2, value: writeBlock({ number: from / sizeOf(exponent), more, exponent }) };
    const size = from === 0 ? [option(OPTION.size2, payload.length)] : [];
    return { ...said, options: [...options, block, ...size], payload: payload.subarray(from, to), isLarge };
  }

  #exponentFor(peer: Peer, bytes: number): number {
    if (this.#exchanges.believes(peer)) return EXPONENT_MAX;
    const room = bytes * AMPLIFICATION_MAX - OVERHEAD_BYTES;
    let exponent = STRANGER_EXPONENT;
    while (exponent < EXPONENT_MAX && sizeOf(exponent + 1) <= room) exponent++;
    return exponent;
  }
}

const empty = (type: number, id: number): Buffer =>
  writePacket({ type, code: EMPTY, id, token: NONE, options: [], payload: NONE });

/** RFC 7959 2.2: an exponent of 7 is reserved. */
function blockIn(packet: Packet, number: number): Block | undefined {
  const [value] = valuesOf(packet, number);
  if (!value) return undefined;
  const block = readBlock(value);
  if (!block) throw new Refused(CODE.badOption, "the block is none");
  return block;
}

function safeBlock(packet: Packet): Block | undefined {
  const [value] = valuesOf(packet, OPTION.block2);
  return value && readBlock(value);
}
