/** Devices that observe (RFC 7641): their route is asked again and again, and what has changed is told to each of them. */
import type { Clock } from "../../../kernel/clock.ts";
import { option, type Said } from "./answer.ts";
import type { Peer } from "./exchanges.ts";
import type { Packet } from "./packet.ts";
import { OPTION } from "./terms.ts";

/** How often the route is asked for each of them. */
const LOOK_MS = 1_000;
/** What has not changed is told again before the device takes it for old (RFC 7641 3.3.1). */
const FRESH_S = 60;
const AGAIN_MS = 45_000;
/** Of all devices; a further one has its answer, and is told nothing more (RFC 7641 4.1). */
const OBSERVERS_MAX = 128;
const OBSERVERS_PER_ADDRESS_MAX = 16;
/** RFC 7641 3.4: of 24 bits. */
const SEQUENCE_MASK = 0xff_ffff;

export interface Observation {
  readonly packet: Packet;
  readonly peer: Peer;
}

export interface ObserversOptions {
  readonly clock: Clock;
  /** Asks the route; undefined where it has no time now. */
  readonly ask: (observation: Observation) => Promise<Said | undefined>;
  /** Sends what is to be acknowledged; `over` is called once, when it was, or will not be. */
  readonly tell: (observation: Observation, said: Said, over: (acknowledged: boolean) => void) => void;
}

interface Observer extends Observation {
  said: Said;
  toldMs: number;
  /** Something is on its way, or being asked for: RFC 7641 4.5.1 has no second one beside it. */
  busy: boolean;
}

/** RFC 7641 4.1: by its address and its token. */
const nameOf = ({ packet, peer }: Observation): string =>
  `${peer.address} ${peer.port} ${packet.token.toString("hex")}`;

export class Observers {
  readonly #o: ObserversOptions;
  readonly #observers = new Map<string, Observer>();
  #looking: NodeJS.Timeout | undefined;
  #sequence = 0;

  constructor(options: ObserversOptions) {
    this.#o = options;
  }

  get size(): number {
    return this.#observers.size;
  }

  /** Begins with what is answered; gives it with what says so, or as it is where there are too many. */
  add(observation: Observation, said: Said): Said {
    this.remove(observation);
    const { address } = observation.peer;
    const beside = [...this.#observers.values()].filter(({ peer }) => peer.address === address).length;
    if (this.#observers.size >= OBSERVERS_MAX || beside >= OBSERVERS_PER_ADDRESS_MAX) return said;
    const toldMs = this.#o.clock.monotonicMs();
    this.#observers.set(nameOf(observation), { ...observation, said, toldMs, busy: false });
    this.#looking ??= setInterval(() => this.#look(), LOOK_MS).unref();
    return this.#numbered(said);
  }

  remove(observation: Observation): void {
    this.#observers.delete(nameOf(observation));
    if (this.#observers.size === 0) this.close();
  }

  close(): void {
    clearInterval(this.#looking);
    this.#looking = undefined;
    this.#observers.clear();
  }

  #numbered({ code, options, payload }: Said): Said {
    this.#sequence = (this.#sequence + 1) & SEQUENCE_MASK;
    const rest = options.filter(({ number }) => number !== OPTION.maxAge);
    return {
      code,
      options: [...rest, option(OPTION.observe, this.#sequence), option(OPTION.maxAge, FRESH_S)],
      payload,
    };
  }

  #look(): void {
    for (const observer of this.#observers.values()) if (!observer.busy) void this.#lookAt(observer);
  }

  async #lookAt(observer: Observer): Promise<void> {
    observer.busy = true;
    const said = await this.#o.ask(observer);
    // Meanwhile it may have gone, or begun anew.
    if (this.#observers.get(nameOf(observer)) !== observer) return;
    const nowMs = this.#o.clock.monotonicMs();
    observer.busy = false;
    if (!said || (isSame(said, observer.said) && nowMs - observer.toldMs < AGAIN_MS)) return;
    Object.assign(observer, { said, toldMs: nowMs, busy: true });
    if (said.code >> 5 !== SUCCESS) {
      // RFC 7641 4.2: an error is the last that is told.
      this.remove(observer);
      return this.#o.tell(observer, said, () => undefined);
    }
    this.#o.tell(observer, this.#numbered(said), (acknowledged) => {
      observer.busy = false;
      if (!acknowledged && this.#observers.get(nameOf(observer)) === observer) this.remove(observer);
    });
  }
}

const SUCCESS = 2;

const isSame = (one: Said, other: Said): boolean =>
  one.code === other.code && one.payload.equals(other.payload) && String(formatOf(one)) === String(formatOf(other));

const formatOf = ({ options }: Said): Buffer | undefined =>
  options.find(({ number }) => number === OPTION.contentFormat)?.value;
