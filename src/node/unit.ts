/** One place for a process under the supervisor: started, watched, started again, replaced by a successor, stopped. */
import type { Clock } from "../kernel/clock.ts";
import { fail } from "../kernel/error.ts";
import type { ServiceStatus } from "./api.ts";
import { Backoff } from "./backoff.ts";
import { NODE_RESTART_FAILED } from "./codes.ts";
import type { Report } from "./confine/spawn.ts";
import type { Address, FromChild, ToChild } from "./hello.ts";
import { type Birth, Life, type UnitState } from "./life.ts";

export type { UnitState } from "./life.ts";

/** How a process is to begin. */
export interface Beginning {
  /** The place of another is taken. */
  readonly successor?: "waiting" | "beside";
  /** Listens on its second socket: the first is its predecessor's, who still serves. */
  readonly spare: boolean;
}

export interface UnitOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly birth: (beginning: Beginning) => Promise<Birth>;
  readonly onMessage: (message: FromChild, life: Life) => void;
  /** Told of each line that the process of these services wrote. */
  readonly onOutput: (services: readonly string[], text: string) => void;
  /** Told of each change, for the screen. */
  readonly onState: (service: string, state: UnitState, reason: string | undefined) => void;
  readonly onReport: (report: Report) => void;
}

export interface Replacement {
  /** Both serve for a moment; else the successor waits until its predecessor has let go of the store that only one may hold. */
  readonly beside: boolean;
  /** A successor that is not up by then is given up. */
  readonly startMsMax: number;
  /** A predecessor that has not ended by then is killed. */
  readonly drainMsMax: number;
}

export class Unit {
  readonly name: string;
  readonly #options: UnitOptions;
  readonly #backoff: Backoff;
  /** All processes that are there: the one that serves, its successor, its predecessor. */
  readonly #lives = new Set<Life>();
  /** The one that serves, or did last. */
  #life: Life | undefined;
  #successor: Life | undefined;
  #replacing = false;
  #spare = false;
  #stopping = false;
  /** Why no process could be started at all. */
  #unborn: string | undefined;
  #again: NodeJS.Timeout | undefined;
  restarts = 0;

  constructor(options: UnitOptions) {
    this.name = options.name;
    this.#options = options;
    this.#backoff = new Backoff(options.clock);
  }

  /** Starts the process; resolves when it has loaded its code, or ended. A failure to start counts as an end. */
  async start(): Promise<void> {
    if (this.#stopping) return;
    // Also of one that cannot be born: else each try would be the first after a long life.
    this.#backoff.started();
    try {
      const birth = await this.#options.birth({ spare: this.#spare });
      if (this.#stopping) return;
      this.#unborn = undefined;
      this.#life = this.#begin(birth);
    } catch (error) {
      return this.#ended(error instanceof Error ? error.message : String(error));
    }
    for (const service of this.#life.services.keys()) this.#tell(this.#life, service);
    await this.#life.loaded;
  }

  /**
   * Puts a new process in the place of the one that runs. NODE_RESTART_FAILED where that does not come up: its predecessor
   * serves on, unless it had to let go of its store before (then a process is tried for as after any end).
   */
  async replace({ beside, startMsMax, drainMsMax }: Replacement): Promise<void> {
    const old = this.#life;
    if (!old?.pid || this.#replacing || this.#stopping)
      throw fail(NODE_RESTART_FAILED, `${this.name} does not run, so there is nothing to take over from`);
    this.#replacing = true;
    try {
      const successor = beside ? "beside" : "waiting";
      const birth = await this.#options.birth({ successor, spare: this.#spare !== beside });
      const next = (this.#successor = this.#begin(birth));
      await this.#inTime(next, beside ? next.ready : next.standing, startMsMax);
      [this.#life, this.#successor] = [next, undefined];
      if (beside) this.#spare = !this.#spare;
      await old.stop(drainMsMax, true);
      if (!beside) next.send({ kind: "go" });
      await this.#inTime(next, next.ready, startMsMax);
    } finally {
      this.#replacing = false;
      // It may have ended of itself while its successor, which did not come up, was waited for.
      if (!this.#life?.pid && !this.#stopping && this.#again === undefined) void this.start();
    }
  }

  send(message: ToChild): void {
    for (const life of this.#lives) life.send(message);
  }

  /** Where the process that serves is to be called. */
  addressOf(service: string): Address | undefined {
    return this.#life?.services.get(service)?.address;
  }

  /** The process of an instance. */
  lifeOf(instance: string): Life | undefined {
    for (const life of this.#lives)
      for (const service of life.services.values()) if (service.instance === instance) return life;
    return undefined;
  }

  /** Ends at once what runs an instance of a service, or any where none is named; it is started again as after any end. */
  kill({ service, instance }: Readonly<Record<string, unknown>>): void {
    for (const life of this.#lives) {
      const at = life.services.get(String(service));
      if (at && (instance === "" || at.instance === instance)) life.kill();
    }
  }

  /** Asks it to end, kills it after `timeoutMs`; resolves when it is gone. */
  async stop(timeoutMs: number): Promise<"stopped" | "killed"> {
    this.#stopping = true;
    clearTimeout(this.#again);
    const ends = await Promise.all([...this.#lives].map((life) => life.stop(timeoutMs)));
    this.#life?.setAll("stopped", undefined);
    return ends.includes("killed") ? "killed" : "stopped";
  }

  /** Tells each service of the process, for `holdfast status`. */
  status(): ServiceStatus[] {
    if (this.#life) return this.#life.status(this.restarts);
    if (this.#unborn === undefined) return [];
    const nobody = { service: this.name, instance: "", pid: 0, startedAtMs: 0, restarts: this.restarts };
    return [{ ...nobody, state: this.#backoff.looping ? "critical" : "restarting", reason: this.#unborn }];
  }

  #begin(birth: Birth): Life {
    this.#backoff.started();
    const { onMessage, onOutput, onReport } = this.#options;
    const life = new Life(birth, {
      onMessage: (from, message) => onMessage(message, from),
      onState: (of, service) => this.#tell(of, service),
      onOutput,
      onReport,
      onEnd: (of, reason) => this.#gone(of, reason),
    });
    this.#lives.add(life);
    return life;
  }

  /** Of a successor nobody is told before it has the place. */
  #tell(life: Life, service: string): void {
    const at = life.services.get(service);
    if (life === this.#life && at) this.#options.onState(service, at.state, at.reason);
  }

  async #inTime(life: Life, what: Promise<void>, msMax: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<string>((resolve) => {
      timer = setTimeout(() => resolve(`is not up within ${msMax / 1_000} s`), msMax);
    });
    const why = await Promise.race([what, life.ended, late]);
    clearTimeout(timer);
    if (why === undefined) return;
    if (life === this.#successor) {
      this.#successor = undefined;
      life.kill();
    }
    throw fail(NODE_RESTART_FAILED, `the new process of ${this.name} ${why}`);
  }

  #gone(life: Life, reason: string): void {
    this.#lives.delete(life);
    // A predecessor, or a successor that did not come up: who waits for it is told.
    if (life !== this.#life) return;
    if (this.#replacing && this.#successor) return life.setAll("restarting", reason);
    this.#ended(reason);
  }

  /** The process is gone: stopped where that was wanted, else started again after a while. */
  #ended(reason: string): void {
    if (this.#stopping) return this.#life?.setAll("stopped", undefined);
    const waitMs = this.#backoff.ended();
    this.restarts++;
    const { looping, ends } = this.#backoff;
    const [state, why] = looping
      ? (["critical", `ended ${ends} times in a row, ${reason}`] as const)
      : (["restarting", reason] as const);
    if (this.#life) this.#life.setAll(state, why);
    else {
      this.#unborn = why;
      this.#options.onState(this.name, state, why);
    }
    this.#again = setTimeout(() => {
      this.#again = undefined;
      void this.start();
    }, waitMs);
  }
}
