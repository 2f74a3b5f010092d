/** The rules of the registry, put together: leases and their table, EdgeX's registrations and keys, maintenance. */
import type { Clock } from "../../kernel/clock.ts";
import { fail } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import type { Registry } from "./api.ts";
import { REGISTRY_FULL, REGISTRY_INSTANCE_UNKNOWN } from "./codes.ts";
import type { Instance } from "./instances.api.ts";
import { Keys, type KeysOptions } from "./keys.ts";
import { Registrations, type RegistrationsOptions } from "./registrations.ts";
import { Roster } from "./roster.ts";
import type { RegistryStore } from "./store.ts";

/** Names out of use; more are refused with REGISTRY_FULL. */
const MAINTAINED_MAX = 1_024;

export interface RegistryOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly store: RegistryStore;
  /** A lease that is not renewed for so long ends. */
  readonly ttlMs: number;
  /** How often holders are asked to renew. */
  readonly renewMs: number;
  /** How long what was lost together with many others is kept; 0: not at all. */
  readonly preserveMs: number;
  /** The revision that it begins after: above all of its former runs. */
  readonly revision: number;
  readonly announce: KeysOptions["announce"];
  readonly probe: RegistrationsOptions["probe"];
}

export interface RunningRegistry {
  readonly service: Registry;
  readonly roster: Roster;
  /** Ends leases whose time is over and begins checks that are due; to be called several times per `renewMs`. */
  tick(): void;
  counts(): { instances: number; watchers: number; revision: number };
}

/**
 * Makes the registry. The table of leases is in memory alone, since every holder registers anew within a second of its
 * restart; registrations of those that cannot hold a lease, and keys, are in the store.
 */
export function makeRegistry(options: RegistryOptions): RunningRegistry {
  const { store } = options;
  const maintained = new Set(store.maintained());
  const roster = new Roster({ ...options, isMaintained: (name) => maintained.has(name) });
  const registrations = new Registrations({ ...options, roster });
  const keys = new Keys(options);
  const maintain = (name: string, on: boolean) => {
    if (on && maintained.size >= MAINTAINED_MAX)
      throw fail(REGISTRY_FULL, `${MAINTAINED_MAX} names are out of use already`);
    const isKnown = roster.list().instances.some(meant(name));
    if (!isKnown && !maintained.has(name))
      throw fail(REGISTRY_INSTANCE_UNKNOWN, `there is no service and no instance '${name}'`);
    maintained[on ? "add" : "delete"](name);
    store.setMaintained(name, on);
    return roster.mark(meant(name));
  };
  return {
    roster,
    service: {
      hold: ({ instance, after }, call) => roster.hold(instance, after, call),
      watch: ({ after }, call) => roster.audience.watch(after, call),
      renew: async ({ body: { lease, ...told } }, call) => {
        roster.renew(lease, told, call);
        return {};
      },
      release: async ({ body }, call) => {
        roster.release(body.lease, call);
        return {};
      },
      instances: ({ service, after, waitMs = 0 }, call) => roster.listAfter(service, after, waitMs, call),
      maintain: async ({ body }) => ({ instances: maintain(body.name, body.on) }),
      addRegistration: async ({ body }, call) => {
        registrations.add(body.registration, call);
        return {};
      },
      updateRegistration: async ({ body }, call) => {
        registrations.update(body.registration, call);
        return {};
      },
      registrations: async ({ deregistered }) => {
        const all = registrations.list(deregistered);
        return { totalCount: all.length, registrations: all };
      },
      registration: async ({ serviceId }) => ({ registration: registrations.get(serviceId) }),
      removeRegistration: async ({ serviceId }, call) => {
        registrations.remove(serviceId, call);
        return {};
      },
      values: async (input) => ({ response: keys.read(input) }),
      setValues: async (input, call) => ({ response: keys.write(input, call) }),
      removeValues: async (input) => ({ response: keys.remove(input) }),
    },
    tick() {
      roster.tick();
      registrations.tick();
    },
    counts: () => roster.counts(),
  };
}

/** What an operator's name means: a service of this node, or an instance of it. */
const meant =
  (name: string) =>
  ({ service, instance, node }: Instance): boolean =>
    node === undefined && (service === name || instance === name);
