/** Services of somebody else's in the house: granted what a person says and no more, each as confined as ours are. */
import { closeSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fail } from "../../kernel/error.ts";
import { isNeed, meant } from "../../kernel/identity/needs.ts";
import type { Manifest } from "../manifest.ts";
import type { Listening, ServiceSockets } from "../sockets.ts";
import type { Supervisor } from "../supervisor.ts";
import type { UnitState } from "../unit.ts";
import { listenTcp } from "../confine/listen.ts";
import type { GuestTold } from "./api.ts";
import { Feed } from "./feed.ts";
import { bundleInto, type Described, describe } from "./make.ts";
import type { Place, Places } from "./places.ts";
import type { Guest } from "./plan.ts";
import {
  GUEST_NAME,
  type GuestSpec,
  NODE_GUEST_NAME_TAKEN,
  NODE_GUEST_NEED_MISSING,
  NODE_GUEST_NEED_UNKNOWN,
} from "./spec.ts";

/** Names that stand for somebody in the house, or for a folder of the state directory. */
const RESERVED =
  /^(core-|support-|edge)|^(node|cli|open-edgex|compact|guests?|lock|log|registry|pipeline|gateway|cloud)$/;
const STOP_MS_MAX = 10_000;

export interface GuestsOptions {
  /** All services of the code, started or not. */
  readonly manifests: readonly Manifest[];
  readonly sockets: Map<string, ServiceSockets>;
  readonly places: Places;
  readonly statePath: string;
}

export class Guests {
  /** Those whose processes can be made. */
  readonly known = new Map<string, Guest>();
  supervisor: Supervisor | undefined;
  readonly #o: GuestsOptions;
  readonly #here = new Map<string, Place>();
  readonly #feeds = new Map<string, Feed>();
  readonly #ends = new Map<string, Promise<void>>();
  #made = 0;

  constructor(options: GuestsOptions) {
    this.#o = options;
    // What a node that was killed left behind.
    rmSync(this.#directory(""), { recursive: true, force: true });
  }

  /** Starts what the config declares; one that cannot be made is tried again, as after any end. `from` is the config file. */
  declare(services: Readonly<Record<string, GuestSpec>>, from: string | undefined): void {
    const base = from === undefined ? "/" : dirname(resolve(from));
    for (const [name, declared] of Object.entries(services)) {
      const spec = { ...declared, file: resolve(base, declared.file) };
      this.#claim(name);
      this.#enter(name, async () => {
        if (!this.known.has(name)) this.#settle(name, spec, await this.#make(spec));
      });
    }
  }

  /** Runs a service until it is ended, or who asked hangs up. Refuses as the codes of spec.ts say. */
  async *run(spec: GuestSpec, asked: string | undefined, signal: AbortSignal): AsyncGenerator<GuestTold> {
    if (asked !== undefined) this.#requireFree(asked);
    const made = await this.#make(spec);
    const name = asked ?? made.described.name;
    try {
      this.#claim(name);
    } catch (error) {
      rmSync(made.directory, { recursive: true, force: true });
      throw error;
    }
    const feed = new Feed();
    this.#feeds.set(name, feed);
    try {
      this.#settle(name, spec, made);
      this.#enter(name, async () => undefined);
      yield { event: "named", text: name };
      yield* feed.until(signal);
    } finally {
      await this.end(name);
      this.#feeds.delete(name);
    }
  }

  /** Whether a service was started by `run`. */
  isRun(name: string): boolean {
    return this.#feeds.has(name);
  }

  /** Ends a service and forgets it. */
  end(name: string): Promise<void> {
    const ending = this.#ends.get(name) ?? this.#end(name).finally(() => this.#ends.delete(name));
    this.#ends.set(name, ending);
    return ending;
  }

  async #end(name: string): Promise<void> {
    const place = this.#here.get(name);
    if (!place) return;
    await this.supervisor!.leave(name, STOP_MS_MAX);
    for (const { fd } of Object.values(this.#o.sockets.get(name)?.doors ?? {})) closeSync(fd);
    this.#o.sockets.delete(name);
    this.known.delete(name);
    this.#here.delete(name);
    this.#o.places.giveBack(place);
    rmSync(this.#directory(name), { recursive: true, force: true });
    this.#feeds.get(name)?.end();
  }

  /** Makes those of these that are guests anew, for a restart. */
  async renew(services: readonly string[]): Promise<void> {
    for (const name of services) {
      const guest = this.known.get(name);
      if (guest) this.#settle(name, guest.spec, await this.#make(guest.spec));
    }
  }

  heard(service: string, text: string): void {
    this.#feeds.get(service)?.push({ event: "line", text });
  }

  changed(service: string, state: UnitState, reason: string | undefined): void {
    const feed = this.#feeds.get(service);
    feed?.push({ event: "state", text: state, ...(reason === undefined ? {} : { reason }) });
  }

  /** Bundles a service aside, and hears what it is. */
  async #make(spec: GuestSpec): Promise<Made> {
    this.#requireKnown(spec);
    const { supervisor } = this;
    mkdirSync(this.#directory(""), { recursive: true, mode: 0o711 });
    const directory = this.#directory(`.new-${++this.#made}`);
    try {
      await bundleInto(directory, spec.file, supervisor!.release.code);
      return { directory, described: await describe(await supervisor!.telling(directory)) };
    } catch (error) {
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** Holds what was made against what it was granted, and puts it where its process finds it. */
  #settle(name: string, spec: GuestSpec, { directory: aside, described }: Made): void {
    try {
      requireGranted(name, spec, described);
      const sockets = this.#o.sockets.get(name)!;
      if (Object.keys(sockets.doors).length === 0) this.#o.sockets.set(name, { ...sockets, doors: doorsOf(spec) });
      const directory = this.#directory(name);
      rmSync(directory, { recursive: true, force: true });
      renameSync(aside, directory);
      const { needs } = spec;
      const { stateful } = described;
      const manifest = { name, needs, stateful, spreads: false, ownIdentity: false, doors: [], reads: [], config: {} };
      this.known.set(name, { manifest, spec, directory });
    } finally {
      rmSync(aside, { recursive: true, force: true });
    }
  }

  #claim(name: string): void {
    this.#requireFree(name);
    const place = this.#o.places.take();
    const at = { listen: [place.listen], spare: [place.spare], doors: {}, withoutTls: [] };
    this.#o.sockets.set(name, at);
    this.#here.set(name, place);
  }

  #enter(name: string, before: () => Promise<void>): void {
    this.supervisor!.enter({ name, services: [name], index: 0 }, before);
  }

  /** NODE_GUEST_NAME_TAKEN. */
  #requireFree(name: string): void {
    const refused = (why: string) => fail(NODE_GUEST_NAME_TAKEN, `the service cannot be called '${name}': ${why}`);
    if (!new RegExp(GUEST_NAME).test(name)) throw refused("a name has lower-case letters, digits and '-', at most 63");
    if (this.#o.manifests.some((m) => m.name === name) || RESERVED.test(name))
      throw refused("the name stands for somebody of the house");
    if (this.#here.has(name)) throw refused("a service of that name runs already");
  }

  /** NODE_GUEST_NEED_UNKNOWN. */
  #requireKnown({ needs }: GuestSpec): void {
    const there = [...this.#o.sockets.keys()];
    const isThere = (need: string): boolean => {
      const [name] = need.split(":", 1);
      return isNeed(need) && name !== "*" && (name.endsWith("*") || there.includes(name));
    };
    const unknown = needs.find((need) => !isThere(need));
    if (unknown !== undefined)
      throw fail(NODE_GUEST_NEED_UNKNOWN, `'${unknown}' is no service of this node; there are: ${there.join(", ")}`);
  }

  #directory(name: string): string {
    return join(this.#o.statePath, "guests", name);
  }
}

/** A service that was bundled, aside, and what it says of itself. */
interface Made {
  readonly directory: string;
  readonly described: Described;
}

/** NODE_GUEST_NEED_MISSING, NODE_GUEST_NEED_UNKNOWN. */
function requireGranted(name: string, spec: GuestSpec, { needs, doors }: Described): void {
  const missing = needs.filter((need) => !spec.needs.some((given) => meant(given, need.split(":", 1)[0])));
  if (missing.length > 0)
    throw fail(NODE_GUEST_NEED_MISSING, `${name} needs ${missing.join(", ")}, which it was not granted`);
  const stranger = Object.keys(spec.doors).find((door) => !doors.includes(door));
  if (stranger !== undefined)
    throw fail(NODE_GUEST_NEED_UNKNOWN, `${name} has no door '${stranger}'; it has: ${doors.join(", ") || "none"}`);
}

const doorsOf = ({ doors }: GuestSpec): Record<string, Listening> =>
  Object.fromEntries(Object.entries(doors).map(([name, { host, port }]) => [name, listenTcp({ host, port })]));
