/** What each process is started with: its rights, its keys, its sockets, and the one-time secret it joins with. */
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { totalmem } from "node:os";
import { join } from "node:path";
import type { ConfigValues } from "../kernel/config.ts";
import { type ConfigReach, reachOf, readNamedFiles } from "../kernel/config-reach.ts";
import { withAddresses } from "./addresses.ts";
import type { KeyRing } from "../kernel/seal/keyring.ts";
import type { Cast } from "./casts.ts";
import type { Joiner } from "./expected.ts";
import type { Code } from "./code.ts";
import { NODE_CACHE_UNUSABLE, NODE_STATE_UNUSABLE } from "./codes.ts";
import { shareCompileCache } from "./code.ts";
import type { NodeConfig } from "./config.ts";
import { maySwitchUser } from "./confine/facts.ts";
import { confinementOf, type Plan } from "./confine/plan.ts";
import { mountWayOf } from "./confine/spawn.ts";
import { type Kernel, kernelOf } from "./confine/steps.ts";
import { type Identity, requireFreeUids, uidOf } from "./confine/uids.ts";
import { NODE_FLAGS } from "./flags.ts";
import { type Hello, LINE_FD, type Part } from "./hello.ts";
import type { Manifest } from "./manifest.ts";
import type { Secrets } from "./keys/secrets.ts";
import { meant } from "../kernel/identity/needs.ts";
import { type Guest, guestPlan, secretsOf } from "./guests/plan.ts";
import type { Place } from "./guests/places.ts";
import { FOUNDATION } from "./order.ts";
import { makeOwn, requireWay } from "./owners.ts";
import type { Rights, RightsTable } from "./rights.ts";
import type { ServiceSockets } from "./sockets.ts";
import type { StateDirectory } from "./state.ts";
import type { Birth } from "./life.ts";
import type { Beginning } from "./unit.ts";

/** Of one service, besides what a bare Node sets apart; all of them use 400 MB. With `--compact` one process has it all. */
const MEMORY_BYTES_MAX = 1024 * 1024 * 1024;
const BOOT = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();

/** What processes are made of: the code, and the config as the code knows it. A restart may bring newer ones. */
export interface Release {
  readonly code: Code;
  readonly version: string;
  readonly manifests: readonly Manifest[];
  readonly values: ConfigValues;
}

export interface BirthOptions extends Release {
  readonly sockets: ReadonlyMap<string, ServiceSockets>;
  readonly state: StateDirectory;
  readonly ring: KeyRing;
  readonly secrets: Pick<Secrets, "get">;
  readonly node: NodeConfig;
  readonly rights: RightsTable;
  readonly openEdgex: boolean;
  /** Services of somebody else's, and the places for them. */
  readonly guests: ReadonlyMap<string, Guest>;
  readonly places: readonly Place[];
  /** Told whom to expect, before the process is there. */
  announce(part: Joiner): void;
}

export class Births {
  readonly #options: BirthOptions;
  readonly #ownUids: boolean;
  #kernel: Promise<Kernel> | undefined;
  #release: Release;

  constructor(options: BirthOptions) {
    this.#options = options;
    this.#release = options;
    this.#ownUids = maySwitchUser() && process.geteuid?.() === 0;
    if (!this.#ownUids) return;
    requireFreeUids(options.node.uidBase);
    requireWay(options.state.path, NODE_STATE_UNUSABLE, "the state directory");
    requireWay(options.code.directory, NODE_CACHE_UNUSABLE, "the code");
  }

  /** Whether each service has an own uid. */
  get ownUids(): boolean {
    return this.#ownUids;
  }

  get release(): Release {
    return this.#release;
  }

  /** From here on processes are made of this. NODE_CACHE_UNUSABLE. */
  renew(release: Release): void {
    if (this.#ownUids) requireWay(release.code.directory, NODE_CACHE_UNUSABLE, "the code");
    this.#release = release;
  }

  /** Makes what the next process of a cast is started with. */
  async make(cast: Cast, { successor, spare }: Beginning): Promise<Birth> {
    const { node, state } = this.#options;
    const { code, version } = this.#release;
    const owner = this.#ownUids ? this.#ownerOf(cast.name) : undefined;
    const fds: number[] = [];
    const parts: Part[] = [];
    for (const name of cast.services) parts.push(await this.#part(name, cast, spare, owner, fds));
    const hello: Hello = {
      kind: "hello",
      node: state.node.name,
      version,
      boot: BOOT,
      logLevel: node.logLevel,
      addresses: this.#fixed(),
      parts,
      compact: cast.services.length > 1,
      ...(successor ? { successor } : {}),
    };
    return {
      plan: this.#plan(cast, owner, parts, code),
      kernel: await this.#kernelHere(),
      launcherPath: code.launcher,
      hello,
      fds,
      services: parts.map(({ name, instance, listen }) => ({
        name,
        instance,
        address: { host: listen.host, port: listen.port },
      })),
    };
  }

  /** How a guest tells what it is: in a sandbox that may read its code and do nothing else. */
  async telling(directory: string): Promise<{ plan: Plan; kernel: Kernel; launcherPath: string }> {
    const { code } = this.#release;
    const owner = this.#ownUids ? this.#ownerOf("guest") : undefined;
    const plan = guestPlan({ service: "guest", owner, directory });
    return { plan, kernel: await this.#kernelHere(), launcherPath: code.launcher };
  }

  /** Makes a one-time secret for an instance, and tells identity to expect it. */
  secretFor(service: string, instance: string): string {
    const secret = randomBytes(32).toString("base64url");
    const secretSha256 = createHash("sha256").update(secret).digest("hex");
    const needs = this.#find(service)?.needs;
    this.#options.announce({ service, instance, secretSha256, ...(needs ? { needs: [...FOUNDATION, ...needs] } : {}) });
    return secret;
  }

  #kernelHere(): Promise<Kernel> {
    this.#kernel ??= mountWayOf(this.#release.code.launcher).then((mounts) => ({ ...kernelOf(), mounts }));
    return this.#kernel;
  }

  async #part(name: string, cast: Cast, spare: boolean, owner: Identity | undefined, fds: number[]): Promise<Part> {
    const { sockets, ring, state } = this.#options;
    const { values } = this.#release;
    const manifest = this.#manifest(name);
    const guest = this.#options.guests.get(name);
    const config = (guest?.spec.config ?? values[name]) as ConfigValues;
    const own = sockets.get(name)!;
    const listen = (spare ? own.spare : own.listen)[cast.index];
    const instance = `${name}-${randomBytes(5).toString("hex")}`;
    const directory = join(state.path, name);
    makeOwn(directory, owner);
    const pass = (fd: number): number => LINE_FD + fds.push(fd);
    const dataKeys = (await ring.dataKeys(name)).map(({ id, key }) => {
      const text = key.toString("base64");
      key.fill(0);
      return { id, key: text };
    });
    return {
      name,
      instance,
      directory,
      dataKeys,
      secrets: guest
        ? secretsOf(guest, this.#options.secrets)
        : readNamedFiles(manifest.config, values[name], name, (secret) => this.#options.secrets.get(secret)),
      ...(manifest.ownIdentity ? {} : { joinSecret: this.secretFor(name, instance) }),
      config: name === "identity" ? withAddresses(config) : config,
      listen: { host: listen.host, port: listen.port, fd: pass(listen.fd) },
      doors: Object.fromEntries(Object.entries(own.doors).map(([door, { fd }]) => [door, pass(fd)])),
      ...(own.control ? { control: pass(own.control.fd) } : {}),
      ...(own.openEdgex ? { openEdgex: { fd: pass(own.openEdgex.fd), port: own.openEdgex.port } } : {}),
      standalone: manifest.ownIdentity && name !== "identity",
    };
  }

  #plan(cast: Cast, owner: Identity | undefined, parts: readonly Part[], code: Code): Plan {
    const guest = this.#options.guests.get(cast.name);
    const write = parts.filter(({ name }) => this.#manifest(name).stateful).map(({ directory }) => directory);
    if (guest)
      return guestPlan({
        ...guest,
        service: cast.name,
        owner,
        write,
        connectPorts: this.#innerPorts(guest.manifest.needs),
      });
    const rights = cast.services.map((name): Rights => this.#options.rights[name] ?? {});
    // EdgeX's software says of itself that it is at http://localhost:59900, or at a name of the machine.
    const isNaming = cast.services.some((name) => this.#reach(name).isNaming);
    const names = isNaming || rights.some((r) => r.names) || this.#reachesEdgex(cast);
    const connectPorts = this.#connectPorts(cast);
    return confinementOf({
      service: cast.name,
      ...owner,
      nodePath: process.execPath,
      // A single service's program sets them by itself (bundle.ts).
      ...(cast.services.length > 1
        ? { nodeFlags: NODE_FLAGS, script: code.main, args: ["compact"] }
        : { script: code.service, args: [code.scripts[cast.services[0]], cast.name] }),
      codeDirs: [code.directory],
      write,
      // What the operator put into the directory of one that keeps nothing: the gateway's files.
      read: [
        ...cast.services.flatMap((name) => this.#manifest(name).reads),
        ...parts.map(({ directory }) => directory).filter((directory) => !write.includes(directory)),
      ],
      ...(connectPorts ? { connectPorts } : {}),
      // Port 0: an own address may be chosen, the port is the kernel's choice.
      ...(cast.services.some((name) => this.#reach(name).isBinding) ? { bindPorts: [0] } : {}),
      udp: names,
      names,
      ...(cast.services.length > 1 ? {} : { memoryBytesMax: Math.min(MEMORY_BYTES_MAX, totalmem() / 2) }),
    });
  }

  /** The ports of what it needs; undefined (all) where it reaches EdgeX software that listens where it likes. */
  #connectPorts(cast: Cast): number[] | undefined {
    const { sockets, node, rights } = this.#options;
    if (this.#reachesEdgex(cast)) return undefined;
    const inside = this.#innerPorts(cast.services.flatMap((name) => this.#manifest(name).needs));
    const outside = cast.services.flatMap((name) => [
      ...(node.connectPorts[name] ?? rights[name]?.connectPorts ?? []),
      ...this.#reach(name).connectPorts,
    ]);
    // Where a service may go outside, the cloud beside the node is one of the places.
    const cloud = outside.length > 0 ? (sockets.get("cloud")?.listen ?? []).map(({ port }) => port) : [];
    return [...new Set([...inside, ...outside, ...cloud])];
  }

  /** Where services of the node listen; who may call any of several, may call such as come later. */
  #innerPorts(needs: readonly string[]): number[] {
    const all = [...FOUNDATION, ...needs];
    const found = [...this.#options.sockets].filter(([name]) => all.some((need) => meant(need, name)));
    const later = needs.some((need) => need.endsWith("*")) ? this.#options.places : [];
    return [
      ...found.flatMap(([, { listen, spare }]) => [...listen, ...spare]),
      ...later.flatMap(({ listen, spare }) => [listen, spare]),
    ].map(({ port }) => port);
  }

  /** What its config has a service connect to and from. */
  #reach(name: string): ConfigReach {
    return reachOf(this.#manifest(name).config, this.#release.values[name]);
  }

  /** Whether it calls device services of others. */
  #reachesEdgex(cast: Cast): boolean {
    return this.#options.openEdgex && cast.services.some((name) => this.#manifest(name).needs.includes("device-*"));
  }

  #fixed(): Hello["addresses"] {
    return Object.fromEntries(
      ["identity", "core-keeper"].flatMap((name) => {
        const at = this.#options.sockets.get(name)?.listen[0];
        return at ? [[name, { host: at.host, port: at.port }]] : [];
      }),
    );
  }

  /** Answers the uid of a process; once given, it is kept: the files are its own. */
  #ownerOf(name: string): Identity {
    const { state, node } = this.#options;
    const uids = state.node.uids ?? {};
    const index = uids[name] ?? Object.keys(uids).length;
    if (uids[name] === undefined) state.save({ uids: { ...uids, [name]: index } });
    const owner = uidOf(index, node.uidBase);
    shareCompileCache(this.#release.code.compileCache, [owner.uid]);
    return owner;
  }

  #manifest(name: string): Manifest {
    return this.#find(name)!;
  }

  /** Nobody where the supervisor itself is asked for. */
  #find(name: string): Manifest | undefined {
    return this.#options.guests.get(name)?.manifest ?? this.#release.manifests.find((m) => m.name === name);
  }
}
