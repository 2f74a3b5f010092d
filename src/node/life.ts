/** One process of a unit, from its start to its end: confined, told who it is, heard. */
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import type { Duplex } from "node:stream";
import type { ServiceStatus } from "./api.ts";
import type { Plan } from "./confine/plan.ts";
import { type Report, spawnConfined } from "./confine/spawn.ts";
import type { Kernel } from "./confine/steps.ts";
import { type Address, type FromChild, type Hello, LINE_FD, type ToChild } from "./hello.ts";
import { type Line, openLine } from "./line.ts";
import { eachLine, ERROR, readLine } from "./logbook.ts";

export type UnitState = ServiceStatus["state"];

/** What a process is started with; made anew for each start. */
export interface Birth {
  readonly plan: Plan;
  readonly kernel: Kernel;
  readonly launcherPath: string;
  readonly hello: Hello;
  /** Descriptors it inherits, from LINE_FD + 1 on. */
  readonly fds: readonly number[];
  /** Its services with their instances. */
  readonly services: readonly { readonly name: string; readonly instance: string; readonly address: Address }[];
}

/** Who wants to know how a life goes. */
export interface Witness {
  onMessage(life: Life, message: FromChild): void;
  onState(life: Life, service: string): void;
  onOutput(services: readonly string[], text: string): void;
  onReport(report: Report): void;
  /** The process is gone. */
  onEnd(life: Life, reason: string): void;
}

interface ServiceState {
  readonly instance: string;
  readonly address: Address;
  state: UnitState;
  reason: string | undefined;
}

export class Life {
  readonly services: ReadonlyMap<string, ServiceState>;
  readonly startedAtMs = Date.now();
  /** Resolves with the reason of its end. */
  readonly ended: Promise<string>;
  /** Resolves when it has loaded its code, or ended. */
  readonly loaded: Promise<void>;
  /** Resolves when it needs nothing more but its word to begin; for those that are started to wait. */
  readonly standing: Promise<void>;
  /** Resolves when all its services are up. */
  readonly ready: Promise<void>;
  readonly #witness: Witness;
  readonly #child: ChildProcess;
  readonly #line: Line;
  #lastWords = "";
  #alive = true;

  constructor(birth: Birth, witness: Witness) {
    this.#witness = witness;
    this.services = new Map(
      birth.services.map(({ name, instance, address }) => [
        name,
        { instance, address, state: "starting", reason: undefined },
      ]),
    );
    const ended = Promise.withResolvers<string>();
    this.ended = ended.promise;
    this.#child = this.#spawn(birth, (reason) => {
      if (!this.#alive) return;
      this.#alive = false;
      this.#line.close();
      const why = `${reason}${this.#lastWords ? `: ${this.#lastWords}` : ""}`;
      ended.resolve(why);
      witness.onEnd(this, why);
    });
    const [loaded, standing, ready] = [1, 2, 3].map(() => Promise.withResolvers<void>());
    this.loaded = Promise.race([loaded.promise, this.ended.then(() => undefined)]);
    [this.standing, this.ready] = [standing.promise, ready.promise];
    this.#line = openLine(this.#child.stdio[LINE_FD] as unknown as Duplex, (message) => {
      const from = message as unknown as FromChild;
      if (from.kind === "loaded") loaded.resolve();
      else if (from.kind === "standing") standing.resolve();
      else if (from.kind === "ready") this.set(from.service, "passing", undefined);
      else if (from.kind === "state") this.set(from.service, from.state, from.reason);
      witness.onMessage(this, from);
      if ([...this.services.values()].every(({ state }) => state === "passing" || state === "warning")) ready.resolve();
    });
    this.#line.send(birth.hello);
  }

  get pid(): number | undefined {
    return this.#alive ? this.#child.pid : undefined;
  }

  send(message: ToChild): void {
    if (this.#alive) this.#line.send(message);
  }

  /** Asks it to end, kills it after `timeoutMs`; resolves when it is gone. `handover`: who calls it is to come to no harm. */
  async stop(timeoutMs: number, handover = false): Promise<"stopped" | "killed"> {
    this.setAll("draining", undefined);
    this.send({ kind: "stop", handover });
    let killed = false;
    const timer = setTimeout(() => {
      killed = true;
      this.kill();
    }, timeoutMs);
    await this.ended;
    clearTimeout(timer);
    return killed ? "killed" : "stopped";
  }

  kill(): void {
    if (this.#alive) this.#child.kill("SIGKILL");
  }

  set(service: string, state: UnitState, reason: string | undefined): void {
    const at = this.services.get(service);
    if (!at || (at.state === state && at.reason === reason)) return;
    at.state = state;
    at.reason = reason;
    this.#witness.onState(this, service);
  }

  setAll(state: UnitState, reason: string | undefined): void {
    for (const name of this.services.keys()) this.set(name, state, reason);
  }

  /** Tells each service of the process, for `holdfast status`. */
  status(restarts: number): ServiceStatus[] {
    const memoryBytes = memoryOf(this.pid);
    return [...this.services].map(([service, { instance, state, reason, address }]) => ({
      service,
      instance,
      state,
      pid: this.pid ?? 0,
      restarts,
      startedAtMs: this.startedAtMs,
      ...(reason === undefined ? {} : { reason }),
      ...(memoryBytes === undefined ? {} : { memoryBytes }),
      address: `${address.host}:${address.port}`,
    }));
  }

  #spawn({ plan, kernel, fds, launcherPath }: Birth, onEnd: (reason: string) => void): ChildProcess {
    const child = spawnConfined({
      plan,
      stdio: ["ignore", "pipe", "pipe", "pipe", ...fds],
      launcherPath,
      kernel,
      onReport: (report) => {
        if (report.failed !== undefined) this.#lastWords = report.failed;
        this.#witness.onReport(report);
      },
    });
    child.once("error", (error) => onEnd(error.message));
    child.once("exit", (status, signal) => onEnd(signal ? `ended by ${signal}` : `ended with status ${status}`));
    for (const output of [child.stdout, child.stderr]) {
      if (output)
        eachLine(output, (text) => {
          this.#lastWords = troubleIn(text) ?? this.#lastWords;
          this.#witness.onOutput([...this.services.keys()], text);
        });
    }
    return child;
  }
}

/** Reads what a line says about an end: an error's message, or the head of what Node prints when it gives up. */
function troubleIn(text: string): string | undefined {
  const line = readLine([], text);
  return line && line.level >= ERROR ? line.message.slice(0, WORDS_MAX) : undefined;
}
const WORDS_MAX = 300;

/** Tells a process's memory: its share (PSS) where that may be read, else all that it touches (RSS). */
function memoryOf(pid: number | undefined): number | undefined {
  if (pid === undefined) return undefined;
  for (const [file, pattern] of [
    ["smaps_rollup", /^Pss:\s+(\d+) kB$/m],
    ["status", /^VmRSS:\s+(\d+) kB$/m],
  ] as const) {
    try {
      const found = pattern.exec(readFileSync(`/proc/${pid}/${file}`, "utf8"));
      if (found) return Number(found[1]) * 1024;
    } catch {
      // Not ours to read, or gone by now: the next way, or none.
    }
  }
  return undefined;
}
