/**
 * The supervisor: starts each service as its own confined process, in order of need and no faster than the machine takes
 * it, tells each who it is, watches, restarts, and stops them last first.
 */
import { availableParallelism } from "node:os";
import type { Clock } from "../kernel/clock.ts";
import type { Contract, Service } from "../kernel/contract.ts";
import { fail } from "../kernel/error.ts";
import type { Trust } from "../kernel/identity/trust.ts";
import type { Log } from "../kernel/log.ts";
import type { ServiceStatus } from "./api.ts";
import { type BirthOptions, Births, type Release } from "./births.ts";
import { NODE_RESTART_RUNNING } from "./codes.ts";
import type { Report } from "./confine/spawn.ts";
import type { Missing } from "./confine/steps.ts";
import { Expected, type Joiner } from "./expected.ts";
import type { FromChild, LineMessage } from "./hello.ts";
import type { RoutesFile, RoutesMessage } from "./routes-file.ts";
import { type Cast, castsOf } from "./casts.ts";
import type { Life } from "./life.ts";
import { type Restarted, restartUnits } from "./rolling.ts";
import { SELF, Self } from "./self.ts";
import { Unit, type UnitState } from "./unit.ts";

/** All that are stopped share this; who is not gone by then is killed. */
export const STOP_MS_MAX = 10_000;
/** However late it is, a service has so long for its own end. */
const STOP_MS_MIN = 1_000;
const GATEWAY = "gateway";
/** So much of a name that a process made up is said. */
const NAME_SHOWN = 100;

const runs = (unit: Unit, service: string): boolean => unit.status().some((part) => part.service === service);
const routesLine = (message: RoutesMessage) => ({ kind: "line", service: GATEWAY, name: "routes", message }) as const;

export interface SupervisorOptions extends Omit<BirthOptions, "announce"> {
  readonly compact: boolean;
  readonly clock: Clock;
  readonly log: Log;
  /** What the gateway is told at its start and at each change. */
  readonly routes: Pick<RoutesFile, "read" | "follow" | "close">;
  readonly onState: (service: string, state: UnitState, reason: string | undefined) => void;
  readonly onOutput: (services: readonly string[], text: string) => void;
  /** What a service says on its line to the node itself: it has taken its new key, it asks for log lines. */
  readonly onLine: (life: Life, line: LineMessage) => void;
}

export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #births: Births;
  #units: Unit[];
  #order: string[][];
  readonly #ready = new Set<string>();
  readonly #expected = new Expected((instance) => this.#units.some((unit) => unit.lifeOf(instance)?.pid !== undefined));
  readonly #missing = new Map<string, Missing>();
  readonly #allReady = Promise.withResolvers<void>();
  readonly #stopping = new AbortController();
  #caPem = Promise.withResolvers<string>();
  #trust: Trust | undefined;
  #restarting = false;
  readonly self: Self;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#births = new Births({ ...options, announce: (part) => this.#announce(part) });
    const { casts, order } = castsOf(options.manifests, options.compact, options.sockets);
    this.#order = order;
    this.#units = casts.map((cast) => this.#makeUnit(cast));
    this.self = new Self({
      ...options,
      node: options.state.node.name,
      stopping: this.#stopping.signal,
      caPem: () => this.caPem,
      newSecret: (instance) => this.#births.secretFor(SELF, instance),
      addressOf: (service) => this.#unitOf(service)?.addressOf(service),
    });
    options.routes.follow((message) => {
      for (const unit of this.#units) if (runs(unit, GATEWAY)) unit.send(routesLine(message));
    });
  }

  get ownUids(): boolean {
    return this.#births.ownUids;
  }

  /** Resolves when every service has been ready once. */
  get ready(): Promise<void> {
    return this.#allReady.promise;
  }

  get caPem(): Promise<string> {
    return this.#trust ? Promise.resolve(this.#trust.caPem) : this.#caPem.promise;
  }

  /** Resolves when every process was started; they come up by themselves. */
  async start(): Promise<void> {
    const queue = this.#order.flatMap((level) =>
      this.#units.filter(({ name }) => level.includes(name.split("#", 1)[0])),
    );
    // More at once than there are processors makes the first, which all wait for, later and nobody sooner.
    const turns = Array.from({ length: availableParallelism() + 1 }, async () => {
      for (let unit = queue.shift(); unit && !this.#stopping.signal.aborted; unit = queue.shift()) await unit.start();
    });
    await Promise.all(turns);
  }

  /** Ends all, who is needed after who needs it; answers whom it had to kill. */
  async stop(): Promise<string[]> {
    const { clock } = this.#options;
    const untilMs = clock.monotonicMs() + STOP_MS_MAX;
    this.#stopping.abort();
    this.#options.routes.close();
    const killed: string[] = [];
    for (const level of [...this.#order].reverse()) {
      const units = this.#units.filter(({ name }) => level.includes(name.split("#", 1)[0]));
      const ends = await Promise.all(
        units.map(async (unit) => ({
          name: unit.name,
          end: await unit.stop(Math.max(STOP_MS_MIN, untilMs - clock.monotonicMs())),
        })),
      );
      killed.push(...ends.filter(({ end }) => end === "killed").map(({ name }) => name));
    }
    await this.self.close();
    return killed;
  }

  /** Starts a process beside those of the release, each time after what has to be done before. It ends with the node, or by `leave`. */
  enter(cast: Cast, before: () => Promise<void>): void {
    const unit = this.#makeUnit(cast, before);
    this.#units.push(unit);
    this.#order.push([cast.name]);
    void unit.start();
  }

  /** Ends such a process and forgets it. */
  async leave(name: string, timeoutMs: number): Promise<void> {
    const unit = this.#units.find((one) => one.name === name);
    await unit?.stop(timeoutMs);
    this.#units = this.#units.filter((one) => one !== unit);
    this.#order = this.#order.filter((level) => level[0] !== name || level.length > 1);
  }

  /** How a service of somebody else's is confined while it tells what it is. */
  telling(directory: string): ReturnType<Births["telling"]> {
    return this.#births.telling(directory);
  }

  /** What the next processes are made of. */
  get release(): Release {
    return this.#births.release;
  }

  /** Replaces the processes of these services, one after another, by new ones of this release; NODE_RESTART_RUNNING, NODE_RESTART_FAILED. */
  async *restart(services: readonly string[], release: Release): AsyncGenerator<Restarted> {
    if (this.#restarting) throw fail(NODE_RESTART_RUNNING, "the services are being restarted already");
    this.#restarting = true;
    try {
      this.#births.renew(release);
      const order = this.#order.flat();
      const at = (unit: Unit) => order.indexOf(unit.name.split("#", 1)[0]);
      const units = this.#units
        .filter((unit) => services.some((service) => runs(unit, service)))
        .sort((a, b) => at(a) - at(b));
      yield* restartUnits(units, release.manifests);
    } finally {
      this.#restarting = false;
    }
  }

  status(): ServiceStatus[] {
    return this.#units.flatMap((unit) => unit.status());
  }

  /** What the machine could not give to the services, each once. */
  missing(): Missing[] {
    return [...this.#missing.values()];
  }

  /** Sends a message on a service's line; answers how many processes got it. */
  tell(service: string, name: string, message: Readonly<Record<string, unknown>>): number {
    const units = this.#units.filter((unit) => runs(unit, service));
    for (const unit of units) unit.send({ kind: "line", service, name, message });
    return units.length;
  }

  /** Makes the client of a service, called as `node`; the operator's Unix socket where the service has one. */
  connect<C extends Contract>(contract: C): Service<C> {
    return this.self.connect(contract);
  }

  /** Makes a call of the supervisor's own. */
  call(timeoutMs: number) {
    return this.self.call(timeoutMs);
  }

  #makeUnit(cast: Cast, before?: () => Promise<void>): Unit {
    const { clock, onState, onOutput } = this.#options;
    const unit: Unit = new Unit({
      name: cast.name,
      clock,
      birth: async (beginning) => {
        await before?.();
        return this.#births.make(cast, beginning);
      },
      onMessage: (message, life) => this.#take(unit, life, message),
      onState,
      onOutput,
      onReport: (report) => this.#learn(report),
    });
    return unit;
  }

  #take(unit: Unit, life: Life, message: FromChild): void {
    // Whoever has a line says what it likes: it speaks for its own services, and for nobody else.
    if ("service" in message && !life.services.has(message.service)) {
      const words = `${unit.name} spoke as '${message.service.slice(0, NAME_SHOWN)}'; that was not heard`;
      return this.#options.log.error({ kind: message.kind.slice(0, NAME_SHOWN) }, words);
    }
    switch (message.kind) {
      case "loaded":
        if (runs(unit, GATEWAY)) {
          const routes = this.#options.routes.read();
          // Before the authority, without which it does not start: its door opens with its routes.
          if (routes) life.send(routesLine(routes));
        }
        if (this.#trust) life.send({ kind: "authority", ...this.#trust });
        return;
      case "ready":
        this.#expected.came(message.service);
        this.#ready.add(message.service);
        if (this.#options.manifests.every(({ name }) => this.#ready.has(name))) this.#allReady.resolve();
        return;
      case "need-join": {
        const at = life.services.get(message.service);
        if (at)
          life.send({ kind: `join ${message.service}`, secret: this.#births.secretFor(message.service, at.instance) });
        return;
      }
      case "line":
        if (message.service === "identity" && message.name === "authority")
          this.#identityIsUp(message.message as unknown as Trust);
        else if (message.service === "identity" && message.name === "revoked")
          for (const each of this.#units) each.kill(message.message);
        else this.#options.onLine(life, message);
        return;
      default:
    }
  }

  /** Identity is there (again), or has other authorities or revoked a certificate: everybody is told, and identity whom it is to expect. */
  #identityIsUp({ caPem, revoked }: Trust): void {
    this.#trust = { caPem, revoked };
    this.#caPem.resolve(caPem);
    for (const part of this.#expected.all()) this.#tellIdentity(part);
    for (const unit of this.#units) unit.send({ kind: "authority", caPem, revoked });
    this.self.trust({ caPem, revoked });
  }

  #announce(part: Joiner): void {
    this.#expected.add(part);
    if (this.#trust) this.#tellIdentity(part);
  }

  #tellIdentity(part: Joiner): void {
    this.#unitOf("identity")?.send({ kind: "line", service: "identity", name: "expect-join", message: { ...part } });
  }

  #unitOf(service: string): Unit | undefined {
    return this.#units.find((unit) => unit.name === service) ?? this.#units.find((unit) => runs(unit, service));
  }

  #learn(report: Report): void {
    for (const missing of report.missing) this.#missing.set(missing.what, missing);
    const { log } = this.#options;
    if (report.failed !== undefined)
      log.error({ service: report.service }, `${report.service} could not be confined: ${report.failed}`);
    else log.debug({ service: report.service, absent: report.absent }, "a service was confined");
  }
}
