/** The node's first process: opens state, keys, sockets and log book, then supervises until it is told to stop. */
import { once } from "node:events";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../kernel/clock.ts";
import { type Log, makeLog } from "../kernel/log.ts";
import type { KeyRing } from "../kernel/seal/keyring.ts";
import { type Served, serve } from "../kernel/serve.ts";
import { Tracer } from "../kernel/trace.ts";
import { node as nodeContract } from "./api.ts";
import { chosen, cloudAt, keepCloudPort, type NodeRole } from "./chosen.ts";
import { codeIn } from "./code.ts";
import { configFileOf, loadConfig, type NodeConfig } from "./config.ts";
import { confinementFacts } from "./confine/facts.ts";
import { shieldMemory } from "./confine/libc.ts";
import { listenUnix } from "./confine/listen.ts";
import { type ControlOptions, makeControl } from "./control.ts";
import { Guests } from "./guests/guests.ts";
import { FREE_PLACES, Places } from "./guests/places.ts";
import { KeyDesk } from "./keys/desk.ts";
import { openKeys, ringDirectory } from "./keys/open.ts";
import { Secrets } from "./keys/secrets.ts";
import { listening } from "./listening.ts";
import { Logbook, type LogLine, readLine } from "./logbook.ts";
import type { Manifest } from "./manifest.ts";
import { type NodeOptions, readOptions } from "./options.ts";
import { Notes } from "./note.ts";
import { nextRelease } from "./release.ts";
import type { RightsTable } from "./rights.ts";
import { RoutesFile, routesFileIn } from "./routes-file.ts";
import { Screen } from "./screen.ts";
import { closeSockets, openSockets, type ServiceSockets } from "./sockets.ts";
import { openState, type StateDirectory, stateDirectoryOf } from "./state.ts";
import { Supervisor } from "./supervisor.ts";
import { Welcome } from "./welcome.ts";

export interface NodeInput {
  /** Where this process's own code lies. */
  readonly directory: string;
  readonly version: string;
  readonly rights: RightsTable;
  readonly args: readonly string[];
  readonly role: NodeRole;
}

/** A second Ctrl-C is meant only after this time. */
const SAME_SIGNAL_MS = 1_000;
const EXIT_INTERRUPTED = 130;

/** Runs the node to its end; resolves with the exit status. */
export async function runNode(input: NodeInput): Promise<number> {
  const options = readOptions(input.args);
  // Before any key is in this process's memory.
  shieldMemory();
  const code = codeIn(input.directory);
  const path = options.state ?? stateDirectoryOf(process.env);
  const manifests = chosen(code.manifest, options, input.role);
  const file = configFileOf({ named: options.config, env: process.env, state: path });
  const { values, node } = loadConfig(file, code.manifest);
  const screen = new Screen(process.stdout, process.env);
  screen.nameWidth = Math.max(...manifests.map(({ name }) => name.length)) + 2;
  const state = openState({ path, version: input.version, ...(node.name === "" ? {} : { name: node.name }) });
  let sockets: Map<string, ServiceSockets> | undefined;
  let places: Places | undefined;
  try {
    screen.title("Holdfast", `${input.version} · ${input.role} ${state.node.name} · ${path}`);
    if (node.name !== "" && node.name !== state.node.name)
      screen.say(
        `  note  the node keeps its name '${state.node.name}' from its first start; node.name '${node.name}' is not used`,
      );
    sockets = openSockets({
      manifests,
      node,
      openEdgex: options.openEdgex,
      statePath: path,
      cloud: cloudAt(input.role, node, state),
    });
    keepCloudPort(sockets, state);
    places = new Places(input.role === "cloud" ? 0 : FREE_PLACES + Object.keys(node.services).length);
    return await new Running({ input, options, manifests, values, node, state, sockets, places, screen, code }).run();
  } finally {
    if (sockets) closeSockets(sockets);
    places?.close();
    state.release();
  }
}

interface RunningOptions {
  readonly input: NodeInput;
  readonly options: NodeOptions;
  readonly manifests: readonly Manifest[];
  readonly values: ReturnType<typeof loadConfig>["values"];
  readonly node: NodeConfig;
  readonly state: StateDirectory;
  readonly sockets: Map<string, ServiceSockets>;
  readonly places: Places;
  readonly screen: Screen;
  readonly code: ReturnType<typeof codeIn>;
}

interface ControlParts extends Pick<ControlOptions, "supervisor" | "logbook" | "ring" | "keys" | "guests"> {
  readonly log: Log;
  readonly notes: Notes;
  readonly welcome: Welcome;
}

interface SupervisorParts extends Pick<ControlParts, "logbook" | "ring" | "keys" | "guests" | "notes" | "log"> {
  readonly secrets: Secrets;
}

class Running {
  readonly #o: RunningOptions;
  readonly #stopping = new AbortController();
  readonly #startedAtMs = Date.now();
  #interruptedMs = 0;

  constructor(options: RunningOptions) {
    this.#o = options;
  }

  async run(): Promise<number> {
    const { state, node, screen, input, options, manifests, code, sockets, places } = this.#o;
    const ring = await this.#openRing();
    const logbook = await this.#openLogbook(ring);
    const secrets = await Secrets.open(ringDirectory(state.path), ring);
    const log = makeLog("node", {
      level: node.logLevel,
      to: { write: (text: string) => this.#keep(logbook, ["node"], text.trimEnd()) },
    });
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => this.#interrupted());
    const keys = new KeyDesk({ ring, secrets, node, manifests, env: process.env, log });
    const notes = new Notes({ clock: systemClock, log });
    const guests = new Guests({ manifests: code.manifest, sockets, places, statePath: state.path });
    const supervisor = this.#makeSupervisor({ ring, secrets, keys, guests, notes, logbook, log });
    keys.units = supervisor;
    guests.supervisor = supervisor;
    const welcome = new Welcome({
      supervisor,
      screen,
      sockets,
      role: input.role,
      openEdgex: options.openEdgex,
      protection: () => ({
        facts: confinementFacts(node.uidBase),
        missing: supervisor.missing(),
        keyProvider: ring.provider,
        ownUids: supervisor.ownUids,
        openEdgex: options.openEdgex,
      }),
      log,
      stopping: this.#stopping.signal,
    });
    const control = await this.#openControl({ supervisor, logbook, ring, keys, guests, notes, log, welcome });
    log.info({ version: input.version, services: manifests.length }, "the node starts");
    notes.begin(`${input.version}, ${manifests.length} services`, sockets.has("trace") ? supervisor.self : undefined);
    void supervisor.start();
    guests.declare(node.services, this.#configFile);
    void welcome.show();
    if (!this.#stopping.signal.aborted) await once(this.#stopping.signal, "abort");
    await notes.end();
    return this.#end(supervisor, control, logbook, ring, log);
  }

  #makeSupervisor({ ring, secrets, keys, guests, notes, logbook, log }: SupervisorParts): Supervisor {
    const { state, node, screen, input, options, manifests, code, sockets, values, places } = this.#o;
    return new Supervisor({
      code,
      guests: guests.known,
      places: places.all,
      manifests,
      sockets,
      state,
      ring,
      secrets,
      values,
      node,
      rights: input.rights,
      version: input.version,
      openEdgex: options.openEdgex,
      compact: options.compact,
      clock: systemClock,
      log,
      routes: new RoutesFile({ named: routesFileIn(values), statePath: state.path, log }),
      onState: (service, to, reason) => {
        screen.service(service, to, reason);
        guests.changed(service, to, reason);
        notes.changed(service, to, reason);
      },
      onOutput: (services, text) => {
        const line = this.#keep(logbook, services, text);
        if (line) guests.heard(line.service, line.text);
      },
      onLine: listening({ keys, logbook, log }),
    });
  }

  #openRing(): Promise<KeyRing> {
    const { state, node, screen } = this.#o;
    const warn = (_: object, message: string): void => screen.say(`  warn  ${message}`);
    return openKeys({ statePath: state.path, node, env: process.env, log: { warn } });
  }

  async #openLogbook(ring: KeyRing): Promise<Logbook> {
    const { state, screen } = this.#o;
    const key = await ring.dataKey("log");
    const onTrouble = (message: string): void => screen.say(`  warn  ${message}`);
    const logbook = await Logbook.open({ directory: join(state.path, "node", "log"), key, onTrouble });
    key.fill(0);
    return logbook;
  }

  #keep(logbook: Logbook, services: readonly string[], text: string): LogLine | undefined {
    const line = readLine(services, text);
    if (!line) return undefined;
    logbook.add(line.service, line.text);
    this.#o.screen.line(line);
    return line;
  }

  async #openControl({ log, welcome, notes, ...parts }: ControlParts): Promise<Served> {
    const { state, input, options } = this.#o;
    const path = join(state.path, "control.sock");
    const { fd } = listenUnix(path);
    const configFile = this.#configFile;
    const service = makeControl({
      ...parts,
      node: state.node.name,
      version: input.version,
      compact: options.compact,
      stateDirectory: state.path,
      startedAtMs: this.#startedAtMs,
      gatewayUrl: () => welcome.gatewayUrl ?? "",
      protection: () => welcome.protection(),
      restart: async function* (services) {
        const { supervisor, guests } = parts;
        notes.asked("service.restart", services.join(", "));
        await guests.renew(services);
        yield* supervisor.restart(services, nextRelease(supervisor.release, configFile));
      },
      stop: () => setImmediate(() => this.#stopping.abort()),
    });
    const served = await serve({
      contract: nodeContract,
      service,
      listen: { fd },
      plainCaller: "cli",
      log,
      clock: systemClock,
      tracer: new Tracer("node", systemClock),
      audit: notes.audit,
      version: input.version,
    });
    return {
      ...served,
      close: async () => {
        await served.close();
        rmSync(path, { force: true });
      },
    };
  }

  get #configFile(): string | undefined {
    const { options, state } = this.#o;
    return configFileOf({ named: options.config, env: process.env, state: state.path });
  }

  #interrupted(): void {
    // npm and timeout(1) pass on the signal that the terminal sent to everybody: the same Ctrl-C, twice.
    const nowMs = performance.now();
    if (!this.#stopping.signal.aborted) {
      this.#interruptedMs = nowMs;
      this.#stopping.abort();
    } else if (nowMs - this.#interruptedMs > SAME_SIGNAL_MS) process.exit(EXIT_INTERRUPTED); // Services end with their pipe, and lose nothing that was acknowledged.
  }

  async #end(
    supervisor: Supervisor,
    control: Served,
    logbook: Logbook,
    ring: { zero(): void },
    log: Log,
  ): Promise<number> {
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
    screen.say(
      killed.length === 0 ? `  stopped in ${ms} ms` : `  stopped in ${ms} ms; had to be killed: ${killed.join(", ")}`,
    );
    return 0;
  }
}
