/** A whole node as a person starts it: `bin/holdfast start` on a state directory of its own, and the commands against it. */
import assert from "node:assert/strict";
import { type ChildProcess, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { prepareCode } from "../../src/node/code.ts";
import { NODE_FLAGS } from "../../src/node/flags.ts";
import { freePort } from "./ports.ts";
import type { Answered } from "./prompt.child.ts";

const ROOT = join(import.meta.dirname, "../..");
const COMMAND = join(ROOT, "bin", "holdfast");
const START_MS_MAX = 90_000;

/** The bundle is made once for all tests of a run. */
const cache = join(tmpdir(), `holdfast-test-cache-${process.getuid?.() ?? 0}`);

export interface WholeOptions {
  /** Further sections of the config, as YAML. */
  readonly config?: string;
  readonly args?: readonly string[];
  /** Further doors, by their name in `node.doors`. */
  readonly doors?: Readonly<Record<string, { readonly host?: string; readonly port?: number }>>;
  /** Services of others that the config names (node.services). */
  readonly services?: object;
  /** What the node is started by: a command that runs another one. */
  readonly under?: readonly string[];
  /** Another composition root than src/main.ts, with services of its own. */
  readonly entry?: string;
  /** The state directory's path below the house's; its parent is the test's to make. */
  readonly state?: string;
}

export class Whole {
  readonly directory: string;
  readonly state: string;
  readonly keyFile: string;
  readonly gatewayPort = freePort();
  readonly cloudPort = freePort();
  readonly #args: readonly string[];
  readonly #under: readonly string[];
  readonly #entry: string | undefined;
  #child: ChildProcess | undefined;
  #text = "";
  /** The command line, as long as something is asked of it. */
  #prompt: ChildProcess | undefined;
  readonly #asked: ((answered: Answered) => void)[] = [];

  constructor(options: WholeOptions = {}) {
    this.directory = mkdtempSync(join(tmpdir(), "holdfast-whole-"));
    // As root each service has a uid of its own, and must get through.
    chmodSync(this.directory, 0o711);
    this.state = join(this.directory, options.state ?? "state");
    this.#args = options.args ?? [];
    this.#under = options.under ?? [];
    this.#entry = options.entry;
    this.keyFile = join(this.directory, "key", "node.key");
    const doors = { "gateway.https": { port: this.gatewayPort }, "bus.mqtts": { port: freePort() }, ...options.doors };
    const node = { keyFile: this.keyFile, doors, cloud: { port: this.cloudPort }, services: options.services ?? {} };
    // JSON is YAML, too.
    writeFileSync(join(this.directory, "holdfast.yaml"), `node: ${JSON.stringify(node)}\n${options.config ?? ""}`);
  }

  /** All that it wrote so far. */
  get output(): string {
    return this.#text;
  }

  /** The command line, and the environment in which it finds the bundle. */
  readonly command = COMMAND;
  readonly env = { ...process.env, HOLDFAST_CACHE: cache };

  get pid(): number {
    return this.#child!.pid!;
  }

  /** Starts the node, with other arguments than its own where they are given, and waits until all its services are up. */
  async start(own: readonly string[] = this.#args): Promise<void> {
    const begin = await this.#beginning();
    const args = ["--state", this.state, "--config", join(this.directory, "holdfast.yaml"), ...own];
    const [command, ...words] = [...this.#under, ...begin, ...args];
    const child = spawn(command, words, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, HOLDFAST_CACHE: cache },
    });
    this.#child = child;
    this.#text = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (part: string) => (this.#text += part));
    await this.until(() => {
      if (child.exitCode !== null) assert.fail(`the node ended:\n${this.#text}`);
      return this.#text.includes("Running:");
    }, "the node to be up");
  }

  /** What starts the node: the command, or the code of its own composition root. */
  async #beginning(): Promise<[string, ...string[]]> {
    if (this.#entry === undefined) return [COMMAND, "start"];
    const code = await prepareCode({ root: ROOT, entry: this.#entry, cache: `${cache}-own` });
    return [process.execPath, ...NODE_FLAGS, code.main, "node"];
  }

  /** Ends the node as Ctrl-C does. */
  async stop(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGINT");
    await ended;
  }

  /** Resolves when it has ended, of whatever. */
  async ended(): Promise<void> {
    const child = this.#child;
    if (child && child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }

  /** Ends the supervisor as a power cut does; its services follow. */
  async killSupervisor(): Promise<void> {
    const ended = once(this.#child!, "exit");
    this.#child!.kill("SIGKILL");
    await ended;
  }

  async remove(): Promise<void> {
    this.#prompt?.disconnect();
    await this.stop();
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }

  /** Runs a command and answers what it printed; fails with its words where it fails. */
  async text(...args: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.#ask(args);
    if (status === 0) return stdout;
    // As execFile has it.
    throw Object.assign(new Error(`holdfast ${args.join(" ")}: ${stderr}`), { code: status, stdout, stderr });
  }

  #ask(args: readonly string[]): Promise<Answered> {
    const { promise, resolve } = Promise.withResolvers<Answered>();
    const id = this.#asked.push(resolve) - 1;
    this.#open().send({ id, args: [...args, "--state", this.state] });
    return promise;
  }

  #open(): ChildProcess {
    if (this.#prompt) return this.#prompt;
    const env = { ...process.env, HOLDFAST_CACHE: cache };
    const prompt = fork(join(import.meta.dirname, "prompt.child.ts"), {
      env,
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
    prompt.on("message", (answered: Answered) => this.#asked[answered.id](answered));
    prompt.once("exit", (status, signal) => {
      const stderr = `the command line ended (${status ?? signal})`;
      for (const [id, answer] of this.#asked.entries()) answer({ id, status: -1, stdout: "", stderr });
    });
    return (this.#prompt = prompt);
  }

  /** Runs a command with --json. */
  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.text(...args, "--json")) as T;
  }

  /** Process ids by service; 0 where there is none just now. */
  async pids(): Promise<Map<string, number>> {
    // The status is 1 while one of them is being started.
    const { stdout } = await this.#ask(["status", "--json"]);
    const { services } = JSON.parse(stdout) as { services: { service: string; pid: number }[] };
    return new Map(services.map(({ service, pid }) => [service, pid]));
  }

  /** Looks again and again: what is waited for is seen from outside only. */
  async until(isSo: () => boolean | Promise<boolean>, what: string, timeoutMs = START_MS_MAX): Promise<void> {
    const endMs = performance.now() + timeoutMs;
    while (!(await isSo())) {
      if (performance.now() > endMs)
        assert.fail(`waited ${timeoutMs / 1000} s for ${what}; the node wrote:\n${this.#text}`);
      await sleep(100);
    }
  }
}
