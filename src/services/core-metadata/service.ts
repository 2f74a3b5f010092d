/** The rules of metadata: who may be added, changed and removed, and who is told. */
import { randomUUID } from "node:crypto";
import type { Call } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import {
  type Device,
  type DeviceProfile,
  type DeviceService,
  type ItemResult,
  MAX_RESULT_COUNT,
} from "../../kernel/edgex.ts";
import { asFailure, type ErrorCode, fail } from "../../kernel/error.ts";
import type { CoreMetadata } from "./api.ts";
import {
  METADATA_DEVICE_UNKNOWN,
  METADATA_IN_USE,
  METADATA_INVALID,
  METADATA_NAME_TAKEN,
  METADATA_PROFILE_UNKNOWN,
  METADATA_RANGE,
  METADATA_SERVICE_UNKNOWN,
} from "./codes.ts";
import type { Announcer } from "./announce.ts";
import { checkAutoEvents, checkProfile } from "./rules.ts";
import type { Filter, MetadataStore, Noun, Nouns } from "./store.ts";

interface Needs {
  readonly store: MetadataStore;
  readonly clock: Clock;
  /** Tells the house what changed, and asks a device service whether it takes a device. */
  readonly announce: Announcer;
}

const UNKNOWN: Record<Noun, ErrorCode> = {
  device: METADATA_DEVICE_UNKNOWN,
  profile: METADATA_PROFILE_UNKNOWN,
  service: METADATA_SERVICE_UNKNOWN,
};
const WORD: Record<Noun, string> = { device: "device", profile: "device profile", service: "device service" };

/** Makes core-metadata of its store and its way to tell others. */
export function makeCoreMetadata({ store, clock, announce }: Needs): CoreMetadata {
  const find = <N extends Noun>(noun: N, name: string): Nouns[N] => {
    const found = store.byName(noun, name);
    if (!found) throw fail(UNKNOWN[noun], `${WORD[noun]} '${name}' does not exist`);
    return found;
  };
  /** EdgeX names what to change by id or by name; both must agree where both are given. */
  const findEither = <N extends Noun>(noun: N, it: { id?: string; name?: string }): Nouns[N] => {
    if (!it.id && !it.name) throw fail(METADATA_INVALID, `a ${WORD[noun]} is named by id or name`);
    const found = it.id ? store.byId(noun, it.id) : store.byName(noun, it.name!);
    if (!found) throw fail(UNKNOWN[noun], `${WORD[noun]} '${it.id ?? it.name}' does not exist`);
    if (it.name && it.name !== found.name)
      throw fail(METADATA_INVALID, `${WORD[noun]} id '${it.id}' is that of '${found.name}', not of '${it.name}'`);
    return found;
  };
  const page = <N extends Noun>(noun: N, filter: Filter, p: { offset?: number; limit?: number }) => {
    const { offset = 0, limit = 20 } = p;
    const found = store.list(noun, filter, offset, limit === -1 ? MAX_RESULT_COUNT : limit);
    if (offset > found.total) throw fail(METADATA_RANGE, `offset ${offset} is past the ${found.total} there are`);
    return found;
  };
  const insert = <N extends Noun>(noun: N, value: Nouns[N]): Nouns[N] => {
    if (store.byName(noun, value.name)) throw fail(METADATA_NAME_TAKEN, `${WORD[noun]} '${value.name}' exists already`);
    if (value.id && store.byId(noun, value.id))
      throw fail(METADATA_NAME_TAKEN, `a ${WORD[noun]} with id '${value.id}' exists already`);
    const now = clock.wallMs();
    const made = { ...value, id: value.id || randomUUID(), created: now, modified: now };
    store.put(noun, made);
    return made;
  };
  const replace = <N extends Noun>(noun: N, old: Nouns[N], change: Partial<Nouns[N]>): Nouns[N] => {
    // `null` in a patch means "not given", as a nil pointer does in Go.
    const given = Object.fromEntries(Object.entries(change).filter(([, v]) => v !== null && v !== undefined));
    const made = {
      ...old,
      ...given,
      id: old.id,
      name: old.name,
      created: old.created,
      modified: clock.wallMs(),
    } as Nouns[N];
    store.put(noun, made);
    return made;
  };
  const checkDevice = (device: Device): void => {
    find("service", device.serviceName);
    checkAutoEvents(device, device.profileName ? find("profile", device.profileName) : undefined);
  };
  const ask = async (device: Device, skip: boolean | undefined, call: Call) =>
    skip ? undefined : announce.validate(device, call);

  return {
    addDevices: ({ body, bypassValidation, force }, call) =>
      each(body, async ({ device }) => {
        checkDevice(device);
        if (store.byName("device", device.name)) {
          // `force`: what is there is changed to what is sent (EdgeX 4's re-add of a known device).
          if (!force) throw fail(METADATA_NAME_TAKEN, `device '${device.name}' exists already`);
          const changed = replace("device", find("device", device.name), device);
          await announce.device("update", changed, call);
          return created(changed.id);
        }
        await ask(device, bypassValidation || force, call);
        const made = insert("device", device);
        await announce.device("add", made, call);
        return created(made.id);
      }),
    patchDevices: ({ body, bypassValidation }, call) =>
      each(body, async ({ device }) => {
        const old = findEither("device", device);
        const next = {
          ...old,
          ...Object.fromEntries(Object.entries(device).filter(([, v]) => v !== null && v !== undefined)),
        };
        checkDevice(next);
        await ask(next, bypassValidation, call);
        const made = replace("device", old, device);
        // The service that loses a device must hear of it too.
        if (made.serviceName !== old.serviceName) await announce.device("delete", old, call);
        await announce.device("update", made, call);
        return { statusCode: 200 };
      }),
    allDevices: async ({ labels, ...p }) => devicesOf(page("device", labels ? { labels } : {}, p)),
    deviceByName: async ({ name }) => ({ device: find("device", name) }),
    deviceExists: async ({ name }) => (find("device", name), {}),
    devicesByService: async ({ name, ...p }) => devicesOf(page("device", { service: name }, p)),
    devicesByProfile: async ({ name, ...p }) => devicesOf(page("device", { profile: name }, p)),
    deleteDevice: async ({ name }, call) => {
      const device = find("device", name);
      store.remove("device", name);
      await announce.device("delete", device, call);
      return {};
    },

    addProfiles: ({ body }, call) =>
      each(body, async ({ profile }) => {
        checkProfile(profile);
        const made = insert("profile", profile);
        await announce.profile("add", made, [], call);
        return created(made.id);
      }),
    updateProfiles: ({ body }, call) =>
      each(body, async ({ profile }) => {
        checkProfile(profile);
        const old = findEither("profile", profile);
        // A PUT replaces: what is not sent is gone, but for the identity.
        const made: DeviceProfile = {
          ...profile,
          id: old.id!,
          name: old.name,
          created: old.created!,
          modified: clock.wallMs(),
        };
        store.put("profile", made);
        await announce.profile("update", made, store.servicesOfProfile(made.name), call);
        return { statusCode: 200 };
      }),
    allProfiles: async ({ labels, ...p }) => {
      const { total, values } = page("profile", labels ? { labels } : {}, p);
      return { totalCount: total, profiles: values };
    },
    profileByName: async ({ name }) => ({ profile: find("profile", name) }),
    deleteProfile: async ({ name }, call) => {
      const profile = find("profile", name);
      const users = store.list("device", { profile: name }, 0, 1);
      if (users.total > 0)
        throw fail(
          METADATA_IN_USE,
          `device profile '${name}' is used by ${users.total} device(s), '${users.values[0].name}' among them`,
        );
      store.remove("profile", name);
      await announce.profile("delete", profile, [], call);
      return {};
    },
    resourceOfProfile: async ({ profileName, resourceName }) => {
      const resource = (find("profile", profileName).deviceResources ?? []).find((r) => r.name === resourceName);
      if (!resource)
        throw fail(METADATA_PROFILE_UNKNOWN, `device profile '${profileName}' has no resource '${resourceName}'`);
      return { resource };
    },

    addServices: ({ body }, call) =>
      each(body, async ({ service }) => {
        const made = insert("service", service);
        await announce.service("add", made, call);
        return created(made.id);
      }),
    patchServices: ({ body }, call) =>
      each(body, async ({ service }) => {
        const made = replace("service", findEither("service", service), service as Partial<DeviceService>);
        await announce.service("update", made, call);
        return { statusCode: 200 };
      }),
    allServices: async ({ labels, ...p }) => {
      const { total, values } = page("service", labels ? { labels } : {}, p);
      return { totalCount: total, services: values };
    },
    serviceByName: async ({ name }) => ({ service: find("service", name) }),
    deleteService: async ({ name }, call) => {
      const service = find("service", name);
      const owned = store.list("device", { service: name }, 0, 1);
      if (owned.total > 0)
        throw fail(
          METADATA_IN_USE,
          `device service '${name}' owns ${owned.total} device(s), '${owned.values[0].name}' among them`,
        );
      store.remove("service", name);
      await announce.service("delete", service, call);
      return {};
    },

    // None can be added yet, so none is there: what a device service asks at its start is answered truly.
    watchersByService: async () => ({ totalCount: 0, provisionWatchers: [] }),
  };
}

const created = (id: string | undefined) => ({ statusCode: 201, ...(id ? { id } : {}) });
const devicesOf = ({ total, values }: { total: number; values: Device[] }) => ({ totalCount: total, devices: values });

/** Answers a multi request item by item, in order (207): one that fails stops no other. `null` answers `null`. */
async function each<T extends { requestId?: string }>(
  items: readonly T[] | null,
  work: (item: T) => Promise<{ statusCode: number; id?: string }>,
): Promise<ItemResult[] | null> {
  if (items === null) return null;
  const results: ItemResult[] = [];
  for (const item of items) {
    const base = { apiVersion: "v3", ...(item.requestId ? { requestId: item.requestId } : {}) };
    try {
      results.push({ ...base, ...(await work(item)) });
    } catch (error) {
      const failure = asFailure(error);
      if (failure.kind === "internal" && failure.cause) throw failure;
      results.push({ ...base, statusCode: failure.status, message: failure.message });
    }
  }
  return results;
}
