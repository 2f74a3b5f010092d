/** The node's first process: opens state, keys, sockets and log book, then supervises until it is told to stop. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../kernel/clock.ts";
import { fail } from "../kernel/error.ts";
import { makeLog } from "../kernel/log.ts";
import { type Served, serve } from "../kernel/serve.ts";
import { Tracer } from "../kernel/trace.ts";
import { node as nodeContract } from "./api.ts";
import { NODE_OPTION_INVALID } from "./codes.ts";
import { codeIn } from "./code.ts";
import { configFileOf, loadConfig, type NodeConfig } from "./config.ts";
import { confinementFacts } from "./confine/facts.ts";
import { listenUnix } from "./confine/listen.ts";
import { makeControl } from "./control.ts";
import { enrollBeside } from "./enroll.ts";
import { Observer } from "./glance.ts";
import { openKeys } from "./keys.ts";
import { Logbook, readLine } from "./logbook.ts";
import type { Manifest } from "./manifest.ts";
import { type NodeOptions, readOptions } from "./options.ts";
import { whatDoesNot, whatHolds } from "./protection.ts";
import type { RightsTable } from "./rights.ts";
import { type Row, Screen } from "./screen.ts";
import { closeSockets, openSockets, type ServiceSockets } from "./sockets.ts";
import { openState, type StateDirectory, stateDirectoryOf } from "./state.ts";
import { Supervisor } from "./supervisor.ts";

export interface NodeInput {
  /** Where this process's own code lies. */
  readonly directory: string;
  readonly version: string;
  readonly rights: RightsTable;
  readonly args: readonly string[];
  /** `cloud`: the cloud alone, for machines of others. */
  readonly role: "node" | "cloud";
}

/** Port of `holdfast cloud` unless the config has another. */
const CLOUD_PORT = 8444;
const LOOK_MS = 2_000;
/** A second Ctrl-C is meant only after this time. */
const SAME_SIGNAL_MS = 1_000;
const EXIT_INTERRUPTED = 130;

/** Runs the node to its end; resolves with the exit status. */
export async function runNode(input: NodeInput): Promise<number> {
  const options = readOptions(input.args);
  const code = codeIn(input.directory);
  const path = options.state ?? stateDirectoryOf(process.env);
  const manifests = chosen(code.manifest, options, input.role);
  const file = configFileOf({ named: options.config, env: process.env, state: path });
  const { values, node } = loadConfig(file, code.manifest);
  const screen = new Screen(process.stdout, process.env);
  screen.nameWidth = Math.max(...manifests.map(({ name }) => name.length)) + 2;
  const state = openState({ path, version: input.version, ...(node.name === "" ? {} : { name: node.name }) });
  let sockets: Map<string, ServiceSockets> | undefined;
  try {
    screen.title("Holdfast", `${input.version} · ${input.role} ${state.node.name} · ${path}`);
    if (node.name !== "" && node.name !== state.node.name) screen.say(`  note  the node keeps its name '${state.node.name}' from its first start; node.name '${node.name}' is not used`);
    sockets = openSockets({ manifests, node, openEdgex: options.openEdgex, statePath: path, cloud: cloudAt(input.role, node, state) });
    keepCloudPort(sockets, state);
    return await new Running({ input, options, manifests, values, node, state, sockets, screen, code }).run();
  } finally {
    if (sockets) closeSockets(sockets);
    state.release();
  }
}

/** Picks what is to run. NODE_OPTION_INVALID. */
function chosen(all: readonly Manifest[], options: NodeOptions, role: NodeInput["role"]): Manifest[] {
  if (role === "cloud") return all.filter(({ name }) => name === "cloud");
  const unknown = options.only?.find((name) => !all.some((m) => m.name === name));
  if (unknown !== undefined) throw fail(NODE_OPTION_INVALID, `--only: there is no service '${unknown}'; there are: ${all.map(({ name }) => name).join(", ")}`);
  const foundation = ["identity", "core-keeper"];
  return all.filter(({ name }) => (options.only === undefined || options.only.includes(name) || foundation.includes(name)) && !(options.noCloud && name === "cloud"));
}

function cloudAt(role: NodeInput["role"], node: NodeConfig, state: StateDirectory) {
  const host = node.cloud.host || (role === "cloud" ? "0.0.0.0" : "127.0.0.1");
  return { host, port: node.cloud.port || (role === "cloud" ? CLOUD_PORT : 0), before: state.node.cloudPort };
}

function keepCloudPort(sockets: ReadonlyMap<string, ServiceSockets>, state: StateDirectory): void {
  const port = sockets.get("cloud")?.listen[0]?.port;
  if (port !== undefined && port !== state.node.cloudPort) state.save({ cloudPort: port });
}

interface RunningOptions {
  readonly input: NodeInput;
  readonly options: NodeOptions;
  readonly manifests: readonly Manifest[];
  readonly values: ReturnType<typeof loadConfig>["values"];
  readonly node: NodeConfig;
  readonly state: StateDirectory;
  readonly sockets: ReadonlyMap<string, ServiceSockets>;
  readonly screen: Screen;
  readonly code: ReturnType<typeof codeIn>;
}

class Running {
  readonly #o: RunningOptions;
  readonly #stopping = new AbortController();
  readonly #startedAtMs = Date.now();
  readonly #startMs = performance.now();
  #interruptedMs = 0;

  constructor(options: RunningOptions) {
    this.#o = options;
  }

  async run(): Promise<number> {
    const { state, node, screen, input, options, manifests, code, sockets, values } = this.#o;
    const ring = await openKeys({ statePath: state.path, node, env: process.env, log: { warn: (_, message) => screen.say(`  warn  ${message}`) } });
    const key = await ring.dataKey("log");
    const logbook = await Logbook.open({ directory: join(state.path, "node", "log"), key, onTrouble: (message) => screen.say(`  warn  ${message}`) });
    key.fill(0);
    const log = makeLog("node", { level: node.logLevel, to: { write: (text: string) => this.#keep(logbook, "node", text.trimEnd()) } });
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => this.#interrupted());
    const supervisor = new Supervisor({
      code, manifests, sockets, state, ring, values, node, rights: input.rights, version: input.version,
      openEdgex: options.openEdgex, compact: options.compact, clock: systemClock, log,
      onState: (service, to, reason) => {
        screen.service(service, to, reason);
        if (to === "restarting" || to === "critical") log.info({ of: service, state: to }, `${service} is started again: ${reason ?? ""}`);
      },
      onOutput: (service, text) => this.#keep(logbook, service, text),
    });
    const control = await this.#openControl(supervisor, logbook, ring.provider, log);
    log.info({ version: input.version, services: manifests.length }, "the node starts");
    void supervisor.start();
    void supervisor.ready.then(() => this.#up(supervisor, ring.provider, log));
    await this.#stopped();
    return this.#end(supervisor, control, logbook, ring, log);
  }

  #keep(logbook: Logbook, service: string, text: string): void {
    const line = readLine(service, text);
    if (!line) return;
    logbook.add(line.service, line.text);
    this.#o.screen.line(line);
  }

  async #openControl(supervisor: Supervisor, logbook: Logbook, keyProvider: { name: string; promise: string }, log: ReturnType<typeof makeLog>): Promise<Served> {
    const { state, input, options } = this.#o;
    const path = join(state.path, "control.sock");
    const { fd } = listenUnix(path);
    const service = makeControl({
      supervisor, logbook, keyProvider, node: state.node.name, version: input.version, compact: options.compact, stateDirectory: state.path,
      startedAtMs: this.#startedAtMs, gatewayUrl: () => this.#gatewayUrl() ?? "",
      protection: () => [...whatHolds(this.#facts(supervisor, keyProvider)), ...whatDoesNot(this.#facts(supervisor, keyProvider))],
      stop: () => setImmediate(() => this.#stopping.abort()),
    });
    const served = await serve({ contract: nodeContract, service, listen: { fd }, plainCaller: "cli", log, clock: systemClock, tracer: new Tracer("node", systemClock), version: input.version });
    return { ...served, close: async () => {
      await served.close();
      rmSync(path, { force: true });
    } };
  }

  #facts(supervisor: Supervisor, keyProvider: { name: string; promise: string }) {
    const { node, options } = this.#o;
    return { facts: confinementFacts(node.uidBase), missing: supervisor.missing(), keyProvider, ownUids: supervisor.ownUids, openEdgex: options.openEdgex };
  }

  #gatewayUrl(): string | undefined {
    const door = this.#o.sockets.get("gateway")?.doors["https"];
    return door && `https://${door.host === "0.0.0.0" || door.host === "::" ? "127.0.0.1" : door.host}:${door.port}`;
  }

  /** Everything is up: joins the cloud beside, shows the page, keeps its last line current. */
  async #up(supervisor: Supervisor, keyProvider: { name: string; promise: string }, log: ReturnType<typeof makeLog>): Promise<void> {
    const { manifests, screen, sockets } = this.#o;
    if (this.#stopping.signal.aborted) return;
    const seconds = ((performance.now() - this.#startMs) / 1000).toFixed(1);
    log.info({ ms: Math.round(performance.now() - this.#startMs) }, "all services are up");
    const beside = sockets.get("cloud")?.listen[0];
    if (beside && sockets.has("pipeline")) void enrollBeside({ supervisor, url: `https://${beside.host}:${beside.port}`, log, signal: this.#stopping.signal });
    const facts = this.#facts(supervisor, keyProvider);
    const observer = new Observer({ supervisor, gatewayUrl: this.#gatewayUrl(), has: (name) => sockets.has(name) });
    let seen = await observer.look();
    screen.page(`Running: ${manifests.length} ${manifests.length === 1 ? "service" : "services"}, up in ${seconds} s`, this.#rows(whatHolds(facts), whatDoesNot(facts)));
    const looking = setInterval(() => void observer.look().then((glance) => (seen = { ...seen, ...glance })), LOOK_MS).unref();
    this.#stopping.signal.addEventListener("abort", () => clearInterval(looking), { once: true });
    if (sockets.has("pipeline") || sockets.has("device-host")) screen.live(() => [seen.cloud && `cloud: ${seen.cloud}`, seen.measured].filter(Boolean).join("  |  ") || "waiting for the first readings");
  }

  #rows(holds: readonly string[], holdsNot: readonly string[]): Row[] {
    const { sockets, input, options } = this.#o;
    const url = this.#gatewayUrl();
    const cloud = sockets.get("cloud")?.listen[0];
    const list = (label: string, texts: readonly string[]): Row[] => texts.map((text, at) => [at === 0 ? label : "", text]);
    return [
      ...(url ? [["gateway", url] as Row, ["token", "npx holdfast token    (how to use it with curl: npx holdfast token --help)"] as Row] : []),
      ...(input.role === "cloud" ? [["code", "npx holdfast cloud code    (then on the node: npx holdfast enroll URL CODE)"] as Row] : []),
      ...(cloud ? [["cloud", `https://${cloud.host}:${cloud.port}${input.role === "cloud" ? "" : ", beside this node for a first look"}`] as Row] : []),
      ...(options.openEdgex ? [["open", "EdgeX's ports on 127.0.0.1, without TLS: for EdgeX software on this machine"] as Row] : []),
      ...list("protected", holds),
      ...list("mind", holdsNot),
      ["more", "npx holdfast status, readings, devices, backlog, trace, logs"],
      ["stop", "Ctrl-C; what is not yet at the cloud is kept and goes there at the next start"],
    ];
  }

  #interrupted(): void {
    // npm and timeout(1) pass on the signal that the terminal sent to everybody: the same Ctrl-C, twice.
    const nowMs = performance.now();
    if (!this.#stopping.signal.aborted) {
      this.#interruptedMs = nowMs;
      this.#stopping.abort();
    } else if (nowMs - this.#interruptedMs > SAME_SIGNAL_MS) process.exit(EXIT_INTERRUPTED); // Services end with their pipe, and lose nothing that was acknowledged.
  }

  #stopped(): Promise<unknown> {
    const { signal } = this.#stopping;
    return signal.aborted ? Promise.resolve() : new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  }

  async #end(supervisor: Supervisor, control: Served, logbook: Logbook, ring: { zero(): void }, log: ReturnType<typeof makeLog>): Promise<number> {
    const { screen } = this.#o;
    screen.stopping();
    screen.say("  stopping; Ctrl-C again ends at once");
    const startMs = performance.now();
    const killed = await supervisor.stop();
    const ms = Math.round(performance.now() - startMs);
    log.info({ ms, killed }, "the node stops");
    await control.close();
    await logbook.close();
    ring.zero();
    screen.say(killed.length === 0 ? `  stopped in ${ms} ms` : `  stopped in ${ms} ms; had to be killed: ${killed.join(", ")}`);
    return 0;
  }
}
