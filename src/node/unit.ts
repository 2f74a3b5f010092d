/** One process under the supervisor: started confined, told who it is, watched, started again, stopped. */
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import type { Duplex } from "node:stream";
import type { Clock } from "../kernel/clock.ts";
import type { ServiceStatus } from "./api.ts";
import { Backoff } from "./backoff.ts";
import type { Plan } from "./confine/plan.ts";
import { type Report, spawnConfined } from "./confine/spawn.ts";
import { type FromChild, LINE_FD, type ToChild } from "./hello.ts";
import { type Line, openLine } from "./line.ts";
import { eachLine, ERROR, TROUBLE } from "./logbook.ts";

export type UnitState = ServiceStatus["state"];

/** What a process is started with; made anew for each start. */
export interface Birth {
  readonly plan: Plan;
  readonly hello: ToChild;
  /** Descriptors it inherits, from LINE_FD + 1 on. */
  readonly fds: readonly number[];
  /** Its services with their instances. */
  readonly services: readonly { readonly name: string; readonly instance: string; readonly address?: string }[];
}

export interface UnitOptions {
  readonly name: string;
  readonly launcherPath: string;
  readonly clock: Clock;
  readonly birth: () => Promise<Birth>;
  readonly onMessage: (message: FromChild) => void;
  readonly onOutput: (service: string, text: string) => void;
  /** Told of each change, for the screen. */
  readonly onState: (service: string, state: UnitState, reason: string | undefined) => void;
  readonly onReport: (report: Report) => void;
}

interface ServiceState {
  instance: string;
  address: string | undefined;
  state: UnitState;
  reason: string | undefined;
}

export class Unit {
  readonly name: string;
  readonly #options: UnitOptions;
  readonly #backoff: Backoff;
  readonly #services = new Map<string, ServiceState>();
  #child: ChildProcess | undefined;
  #line: Line | undefined;
  #stopping = false;
  #again: NodeJS.Timeout | undefined;
  #exited: Promise<void> = Promise.resolve();
  #lastWords = "";
  #startedAtMs = 0;
  restarts = 0;

  constructor(options: UnitOptions) {
    this.name = options.name;
    this.#options = options;
    this.#backoff = new Backoff(options.clock);
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get running(): boolean {
    return this.#line !== undefined;
  }

  /** Starts the process; resolves when it has loaded its code, or ended. A failure to start counts as an end. */
  async start(): Promise<void> {
    if (this.#stopping) return;
    const loaded = Promise.withResolvers<void>();
    try {
      const birth = await this.#options.birth();
      if (this.#stopping) return;
      this.#born(birth, loaded.resolve);
    } catch (error) {
      this.#ended(error instanceof Error ? error.message : String(error));
      return;
    }
    await Promise.race([loaded.promise, this.#exited]);
  }

  send(message: ToChild): void {
    this.#line?.send(message);
  }

  /** Asks it to end, kills it after `timeoutMs`; resolves when it is gone. */
  async stop(timeoutMs: number): Promise<"stopped" | "killed"> {
    this.#stopping = true;
    clearTimeout(this.#again);
    const child = this.#child;
    if (!child) {
      this.#all("stopped", undefined);
      return "stopped";
    }
    this.#all("draining", undefined);
    this.#line?.send({ kind: "stop" });
    let killed = false;
    const timer = setTimeout(() => {
      killed = true;
      child.kill("SIGKILL");
    }, timeoutMs);
    await this.#exited;
    clearTimeout(timer);
    return killed ? "killed" : "stopped";
  }

  /** Tells each service of the process, for `holdfast status`. */
  status(): ServiceStatus[] {
    const memoryBytes = memoryOf(this.#child?.pid);
    return [...this.#services].map(([service, { instance, state, reason, address }]) => ({
      service,
      instance,
      state,
      pid: this.#child?.pid ?? 0,
      restarts: this.restarts,
      startedAtMs: this.#startedAtMs,
      ...(reason === undefined ? {} : { reason }),
      ...(memoryBytes === undefined ? {} : { memoryBytes }),
      ...(address === undefined ? {} : { address }),
    }));
  }

  #born(birth: Birth, onLoaded: () => void): void {
    const { onMessage, onReport, onOutput, launcherPath } = this.#options;
    for (const { name, instance, address } of birth.services)
      this.#services.set(name, { instance, address, state: "starting", reason: undefined });
    for (const { name } of birth.services) this.#options.onState(name, "starting", undefined);
    this.#startedAtMs = Date.now();
    this.#backoff.started();
    const stdio = ["ignore" as const, "pipe" as const, "pipe" as const, "pipe" as const, ...birth.fds];
    const child = spawnConfined({
      plan: birth.plan,
      stdio,
      launcherPath,
      onReport: (report) => {
        if (report.failed !== undefined) this.#lastWords = report.failed;
        onReport(report);
      },
    });
    this.#child = child;
    this.#lastWords = "";
    const gone = Promise.withResolvers<void>();
    this.#exited = gone.promise;
    const over = (reason: string): void => {
      if (this.#child !== child) return;
      this.#child = undefined;
      this.#line?.close();
      this.#line = undefined;
      gone.resolve();
      this.#ended(reason);
    };
    child.once("error", (error) => over(error.message));
    child.once("exit", (status, signal) => over(signal ? `ended by ${signal}` : `ended with status ${status}`));
    for (const output of [child.stdout, child.stderr]) {
      if (output)
        eachLine(output, (text) => {
          this.#lastWords = troubleIn(text) ?? this.#lastWords;
          onOutput(this.name, text);
        });
    }
    const line = openLine(child.stdio[LINE_FD] as unknown as Duplex, (message) => {
      const from = message as unknown as FromChild;
      if (from.kind === "loaded") onLoaded();
      else if (from.kind === "ready") this.#set(from.service, "passing", undefined);
      else if (from.kind === "state") this.#set(from.service, from.state, from.reason);
      onMessage(from);
    });
    this.#line = line;
    line.send(birth.hello);
  }

  /** The process is gone: stopped where that was wanted, else started again after a while. */
  #ended(reason: string): void {
    if (this.#stopping) return this.#all("stopped", undefined);
    const waitMs = this.#backoff.ended();
    this.restarts++;
    const why = `${reason}${this.#lastWords ? `: ${this.#lastWords}` : ""}`;
    this.#all(
      this.#backoff.looping ? "critical" : "restarting",
      this.#backoff.looping ? `ended ${this.#backoff.ends} times in a row, ${why}` : why,
    );
    this.#again = setTimeout(() => void this.start(), waitMs);
  }

  #all(state: UnitState, reason: string | undefined): void {
    if (this.#services.size === 0) this.#services.set(this.name, { instance: "", address: undefined, state, reason });
    for (const name of this.#services.keys()) this.#set(name, state, reason);
  }

  #set(service: string, state: UnitState, reason: string | undefined): void {
    const at = this.#services.get(service);
    if (!at || (at.state === state && at.reason === reason)) return;
    at.state = state;
    at.reason = reason;
    this.#options.onState(service, state, reason);
  }
}

/** Reads what a line says about an end: an error's message, or the head of what Node prints when it gives up. */
function troubleIn(text: string): string | undefined {
  if (!text.startsWith("{")) return TROUBLE.test(text) ? text.slice(0, 300) : undefined;
  try {
    const line = JSON.parse(text) as { level?: number; msg?: string };
    return (line.level ?? 0) >= ERROR ? line.msg?.slice(0, 300) : undefined;
  } catch {
    return undefined;
  }
}

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
