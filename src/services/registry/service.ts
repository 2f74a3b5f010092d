/** The rules of the registry: who may hold which name, when a lease ends, what watchers are told. */
import type { Call } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { newRequestId } from "../../kernel/call.ts";
import { fail } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import {
  type Change,
  type Instance,
  REGISTRY_FULL,
  REGISTRY_LEASE_UNKNOWN,
  REGISTRY_NAME_REFUSED,
  type Registry,
  type State,
} from "./api.ts";
import { Watcher } from "./watcher.ts";

/** More are refused with REGISTRY_FULL: a node runs tens. */
export const INSTANCES_MAX = 1024;
/**
 * All registrations together (as JSON); more are refused with REGISTRY_FULL, since a snapshot must fit one frame of 8
 * MiB.
 */
export const INSTANCES_BYTES_MAX = 6 * 1024 * 1024;
/** Streams that only watch; more are refused with REGISTRY_FULL. */
export const WATCHERS_MAX = 256;
/** The registry was itself asleep if two of its ticks are further apart than this: then nobody else is to blame. */
const STALL_MS = 500;

const LATE = "does not renew its lease: busy, or hung";

export interface RegistryOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** A lease that is not renewed for so long ends. */
  readonly ttlMs: number;
  /** How often holders are asked to renew. */
  readonly renewMs: number;
}

export interface RunningRegistry {
  readonly service: Registry;
  /** Ends leases whose time is over; to be called several times per `renewMs`. */
  tick(): void;
  counts(): { instances: number; watchers: number; revision: number };
}

interface Lease {
  readonly id: string;
  readonly sizeBytes: number;
  readonly watcher: Watcher;
  /** As watchers see it. */
  instance: Instance;
  /** As its holder last told. */
  told: { state: State; reason?: string };
  renewedMs: number;
}

/**
 * Makes the registry; its table is in memory alone, since every holder registers anew within a second of its restart.
 */
export function makeRegistry(options: RegistryOptions): RunningRegistry {
  const roster = new Roster(options);
  return {
    service: {
      hold: ({ instance }, call) => roster.hold(instance, call),
      watch: (_input, call) => roster.watch(call),
      async renew({ body }, call) {
        roster.renew(roster.find(body.lease, call), body);
        return {};
      },
      async release({ body }, call) {
        // Releasing twice, or after the lease ended, is what a termination may well do: no error.
        if (roster.holds(body.lease, call)) roster.drop(roster.find(body.lease, call), "released");
        return {};
      },
      async instances({ service }) {
        const { revision, instances } = roster.snapshot();
        return {
          revision,
          instances: service === undefined ? instances : instances.filter((i) => i.service === service),
        };
      },
    },
    tick: () => roster.tick(),
    counts: () => roster.counts(),
  };
}

class Roster {
  readonly #options: RegistryOptions;
  readonly #leases = new Map<string, Lease>();
  readonly #byInstance = new Map<string, Lease>();
  readonly #watchers = new Set<Watcher>();
  #sizeBytes = 0;
  #revision = 0;
  #tickedMs: number;

  constructor(options: RegistryOptions) {
    this.#options = options;
    this.#tickedMs = options.clock.monotonicMs();
  }

  /**
   * Checks at once, so that a refusal is an answer and not a broken stream; the lease begins with the first item
   * taken.
   */
  hold(instance: Instance, call: Call): AsyncIterable<Change> {
    if (instance.service !== call.caller) {
      throw fail(REGISTRY_NAME_REFUSED, `'${call.caller}' may not register as '${instance.service}'`);
    }
    const present = this.#byInstance.get(instance.instance);
    if (present && present.instance.service !== call.caller) {
      throw fail(REGISTRY_NAME_REFUSED, `instance '${instance.instance}' belongs to '${present.instance.service}'`);
    }
    const sizeBytes = JSON.stringify(instance).length;
    const others = this.#sizeBytes - (present?.sizeBytes ?? 0);
    if (!present && this.#leases.size >= INSTANCES_MAX)
      throw fail(REGISTRY_FULL, `the registry holds ${INSTANCES_MAX} instances, no room for another`);
    if (others + sizeBytes > INSTANCES_BYTES_MAX)
      throw fail(REGISTRY_FULL, `the registry's ${INSTANCES_BYTES_MAX} bytes of registrations are used up`);
    return this.#held(instance, sizeBytes, call);
  }

  async *#held(instance: Instance, sizeBytes: number, call: Call): AsyncGenerator<Change> {
    const { clock, ttlMs, renewMs } = this.#options;
    const lease: Lease = {
      id: newRequestId(),
      sizeBytes,
      watcher: new Watcher(),
      instance,
      told: { state: instance.state, ...(instance.reason === undefined ? {} : { reason: instance.reason }) },
      renewedMs: clock.monotonicMs(),
    };
    // The abort tells at once that the holder's connection is gone, wherever this stream is being written.
    const gone = () => this.drop(lease, "its connection ended");
    if (call.signal.aborted) return;
    call.signal.addEventListener("abort", gone, { once: true });
    try {
      this.#admit(lease);
      yield { revision: this.#revision, kind: "lease", lease: { id: lease.id, ttlMs, renewMs }, instances: [] };
      yield* lease.watcher.changes(() => this.snapshot());
    } finally {
      call.signal.removeEventListener("abort", gone);
      gone();
    }
  }

  async *#watched(call: Call): AsyncGenerator<Change> {
    const watcher = new Watcher();
    const gone = () => watcher.end();
    if (call.signal.aborted) return;
    call.signal.addEventListener("abort", gone, { once: true });
    this.#watchers.add(watcher);
    try {
      yield* watcher.changes(() => this.snapshot());
    } finally {
      call.signal.removeEventListener("abort", gone);
      this.#watchers.delete(watcher);
    }
  }

  watch(call: Call): AsyncIterable<Change> {
    if (this.#watchers.size >= WATCHERS_MAX)
      throw fail(REGISTRY_FULL, `the registry has ${WATCHERS_MAX} watchers, no room for another`);
    return this.#watched(call);
  }

  holds(id: string, call: Call): boolean {
    return this.#leases.get(id)?.instance.service === call.caller;
  }

  find(id: string, call: Call): Lease {
    const lease = this.#leases.get(id);
    // A lease of somebody else is told apart from none by nobody.
    if (!lease || lease.instance.service !== call.caller)
      throw fail(REGISTRY_LEASE_UNKNOWN, `'${call.caller}' holds no such lease`);
    return lease;
  }

  renew(lease: Lease, told: { state: State; reason?: string }): void {
    lease.renewedMs = this.#options.clock.monotonicMs();
    lease.told = told;
    this.#show(lease, told.state, told.reason);
  }

  snapshot(): Change & { revision: number } {
    const instances = [...this.#leases.values()].map((l) => l.instance);
    instances.sort((a, b) => (a.service + "/" + a.instance < b.service + "/" + b.instance ? -1 : 1));
    return { revision: this.#revision, kind: "snapshot", instances };
  }

  /** Ends a lease, once: its stream ends and everybody is told. */
  drop(lease: Lease, why: string): void {
    if (!this.#leases.delete(lease.id)) return;
    this.#byInstance.delete(lease.instance.instance);
    this.#sizeBytes -= lease.sizeBytes;
    lease.watcher.end();
    this.#tell("down", lease.instance);
    this.#options.log.info({ instance: lease.instance.instance, why }, `${lease.instance.service} is down`);
  }

  tick(): void {
    const { clock, ttlMs, renewMs, log } = this.#options;
    const nowMs = clock.monotonicMs();
    const asleepMs = nowMs - this.#tickedMs;
    this.#tickedMs = nowMs;
    if (asleepMs > STALL_MS) {
      // Renewals wait unread in our own sockets: everybody gets the whole time again before anybody is judged.
      for (const lease of this.#leases.values()) lease.renewedMs = nowMs;
      log.warn({ asleepMs: Math.round(asleepMs) }, "the registry itself was held up; no lease ends for that");
      return;
    }
    for (const lease of this.#leases.values()) {
      const sinceMs = nowMs - lease.renewedMs;
      if (sinceMs >= ttlMs) this.drop(lease, `it did not renew for ${Math.round(sinceMs)} ms`);
      // Callers turn to other instances before a hung one is given up; the holder's next renewal takes this back.
      else if (sinceMs >= renewMs * 2 && lease.told.state === "passing") this.#show(lease, "warning", LATE);
    }
  }

  counts() {
    return { instances: this.#leases.size, watchers: this.#watchers.size, revision: this.#revision };
  }

  /**
   * A second registration of one instance (its stream broke unnoticed, or it was restarted) takes the place of the
   * first.
   */
  #admit(lease: Lease): void {
    const { instance } = lease.instance;
    const before = this.#byInstance.get(instance);
    if (before) {
      this.#leases.delete(before.id);
      this.#sizeBytes -= before.sizeBytes;
      before.watcher.end();
    }
    this.#leases.set(lease.id, lease);
    this.#byInstance.set(instance, lease);
    this.#sizeBytes += lease.sizeBytes;
    const revision = this.#tell(before ? "changed" : "up", lease.instance, lease.watcher);
    lease.instance = { ...lease.instance, revision };
    this.#options.log.info(
      { instance, host: lease.instance.host, port: lease.instance.port },
      `${lease.instance.service} is up`,
    );
  }

  #show(lease: Lease, state: State, reason: string | undefined): void {
    if (lease.instance.state === state && lease.instance.reason === reason) return;
    const { reason: _before, ...rest } = lease.instance;
    lease.instance = { ...rest, state, ...(reason === undefined ? {} : { reason }) };
    const revision = this.#tell("changed", lease.instance);
    lease.instance = { ...lease.instance, revision };
  }

  #tell(kind: "up" | "changed" | "down", instance: Instance, except?: Watcher): number {
    const revision = ++this.#revision;
    const change: Change = { revision, kind, instances: [{ ...instance, revision }] };
    for (const watcher of this.#watchers) watcher.push(change);
    for (const { watcher } of this.#leases.values()) if (watcher !== except) watcher.push(change);
    return revision;
  }
}
