/**
 * Messages between the door and devices (RFC 7252 4): what comes twice is answered with the same, what has to arrive is sent
 * until it has. An address is believed once it has acknowledged what only it can have got: until then it gets little.
 */
import { randomInt } from "node:crypto";
import type { Clock } from "../../../kernel/clock.ts";

/** RFC 7252 4.8 */
const ACK_TIMEOUT_MS = 2_000;
const ACK_RANDOM_FACTOR = 1.5;
const RETRANSMISSIONS_MAX = 4;
/** Who is not believed yet is not sent more for a forged request than once more. */
const STRANGER_RETRANSMISSIONS_MAX = 1;
/** RFC 7252 4.8.2: so long an id is of one message. */
const EXCHANGE_MS = 247_000;
/** Exchanges that are remembered: at the limit the oldest goes, and what comes twice then is done twice. */
const EXCHANGES_MAX = 4_096;
/** An address that was believed is so again for so long. */
const BELIEVED_MS = 3_600_000;
const BELIEVED_MAX = 4_096;
/** Messages under way that wait for an acknowledgement; a further one is sent once. */
const WAITING_MAX = 1_024;

export interface Peer {
  readonly address: string;
  readonly port: number;
}

interface Exchange {
  readonly atMs: number;
  answer: Buffer | undefined;
}

interface Waiting {
  readonly timer: NodeJS.Timeout;
  readonly over: (acknowledged: boolean) => void;
}

const nameOf = ({ address, port }: Peer): string => `${address} ${port}`;

export class Exchanges {
  readonly #clock: Clock;
  readonly #send: (bytes: Buffer, peer: Peer) => void;
  readonly #exchanges = new Map<string, Exchange>();
  readonly #believed = new Map<string, number>();
  readonly #waiting = new Map<string, Waiting>();
  #id = randomInt(0x1_0000);

  constructor({ clock, send }: { clock: Clock; send: (bytes: Buffer, peer: Peer) => void }) {
    this.#clock = clock;
    this.#send = send;
  }

  /** True where a message comes for the first time; else what it was answered with goes out again (RFC 7252 4.5). */
  begin(peer: Peer, id: number): boolean {
    const key = `${nameOf(peer)} ${id}`;
    const nowMs = this.#clock.monotonicMs();
    const known = this.#exchanges.get(key);
    if (known && nowMs - known.atMs < EXCHANGE_MS) {
      if (known.answer) this.#send(known.answer, peer);
      return false;
    }
    this.#exchanges.delete(key);
    this.#exchanges.set(key, { atMs: nowMs, answer: undefined });
    for (const [oldest, { atMs }] of this.#exchanges) {
      if (this.#exchanges.size <= EXCHANGES_MAX && nowMs - atMs < EXCHANGE_MS) break;
      this.#exchanges.delete(oldest);
    }
    return true;
  }

  /** Sends what answers a message, and again whenever that comes again. */
  answer(peer: Peer, id: number, bytes: Buffer): void {
    const known = this.#exchanges.get(`${nameOf(peer)} ${id}`);
    if (known) known.answer = bytes;
    this.#send(bytes, peer);
  }

  /** An id that this address has not had for a while; not to be guessed from those before. */
  nextId(): number {
    this.#id = (this.#id + randomInt(1, 0x4000)) & 0xffff;
    return this.#id;
  }

  /** Sends what is to be acknowledged, again and again, each time after twice as long (RFC 7252 4.2); `over` is told once whether it was. */
  confirm(peer: Peer, id: number, bytes: Buffer, over: (acknowledged: boolean) => void = () => undefined): void {
    const key = `${nameOf(peer)} ${id}`;
    const timesMax = this.believes(peer) ? RETRANSMISSIONS_MAX : STRANGER_RETRANSMISSIONS_MAX;
    const send = (times: number, ms: number) => {
      this.#send(bytes, peer);
      if (times === 0 && this.#waiting.size >= WAITING_MAX) return over(false);
      // After the last its acknowledgement may still come.
      const next = times >= timesMax ? () => this.#end(key, false) : () => send(times + 1, ms * 2);
      clearTimeout(this.#waiting.get(key)?.timer);
      this.#waiting.set(key, { timer: setTimeout(next, ms).unref(), over });
    };
    send(0, ACK_TIMEOUT_MS * (1 + (ACK_RANDOM_FACTOR - 1) * Math.random()));
  }

  #end(key: string, acknowledged: boolean): boolean {
    const waiting = this.#waiting.get(key);
    if (!waiting) return false;
    clearTimeout(waiting.timer);
    this.#waiting.delete(key);
    waiting.over(acknowledged);
    return true;
  }

  /** An acknowledgement or a Reset has come: of what was sent, it proves that the address is its sender's. */
  acknowledged(peer: Peer, id: number, isReset = false): void {
    if (!this.#end(`${nameOf(peer)} ${id}`, !isReset)) return;
    this.#believed.delete(nameOf(peer));
    this.#believed.set(nameOf(peer), this.#clock.monotonicMs() + BELIEVED_MS);
    for (const oldest of this.#believed.keys()) {
      if (this.#believed.size <= BELIEVED_MAX) break;
      this.#believed.delete(oldest);
    }
  }

  believes(peer: Peer): boolean {
    return (this.#believed.get(nameOf(peer)) ?? Number.NEGATIVE_INFINITY) > this.#clock.monotonicMs();
  }

  close(): void {
    for (const { timer } of this.#waiting.values()) clearTimeout(timer);
    this.#waiting.clear();
  }
}
