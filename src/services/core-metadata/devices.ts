/** The rules of devices. */
import type { Call } from "../../kernel/call.ts";
import type { Device } from "../../kernel/edgex.ts";
import { type Failure, fail } from "../../kernel/error.ts";
import type { CoreMetadata } from "./api.ts";
import { METADATA_NAME_TAKEN, METADATA_SERVICE_SILENT } from "./codes.ts";
import { created, each, given, type House } from "./entities.ts";
import { checkAutoEvents } from "./rules.ts";
import type { Filter } from "./store.ts";

type Changes = Pick<CoreMetadata, "addDevices" | "patchDevices" | "deleteDevice">;
type Questions = Pick<
  CoreMetadata,
  "allDevices" | "deviceByName" | "deviceById" | "deviceExists" | "devicesByService" | "devicesByProfile"
>;

export function deviceRules(house: House): Changes & Questions {
  const { devices } = house;
  return {
    ...deviceChanges(house),
    allDevices: async ({ labels, ...page }) => listed(house, labels ? { labels } : {}, page),
    deviceByName: async ({ name }) => ({ device: devices.named(name) }),
    deviceById: async ({ id }) => ({ device: devices.withId(id) }),
    deviceExists: async ({ name }) => {
      devices.named(name);
      return {};
    },
    devicesByService: async ({ name, ...page }) => listed(house, { service: name }, page),
    devicesByProfile: async ({ name, ...page }) => listed(house, { profile: name }, page),
  };
}

function deviceChanges(house: House): Changes {
  const { devices, announce, log } = house;
  return {
    addDevices: ({ body, bypassValidation, force }, call) => {
      const ask = asking(house, bypassValidation || force, call);
      return each(body, call, log, async ({ device }) => {
        checkDevice(house, device);
        if (devices.has(device.name)) {
          // `force`: what is there is changed to what is sent (EdgeX 4's re-add of a known device).
          if (!force) throw fail(METADATA_NAME_TAKEN, `device '${device.name}' exists already`);
          const old = devices.named(device.name);
          return created((await changed(house, old, { ...old, ...given(device) }, call)).id);
        }
        devices.refuseKnown(device);
        await ask(device);
        // While the device service thought about it the world went on.
        checkDevice(house, device);
        const made = devices.insert(device);
        await announce.device("add", made, call);
        return created(made.id);
      });
    },
    patchDevices: ({ body, bypassValidation }, call) => {
      const ask = asking(house, bypassValidation, call);
      return each(body, call, log, async ({ device }) => {
        const next = () => {
          const old = devices.either(device);
          const made: Device = { ...old, ...given(device) };
          checkDevice(house, made);
          return { old, made };
        };
        await ask(next().made);
        const { old, made } = next();
        await changed(house, old, made, call);
        return { statusCode: 200 };
      });
    },
    deleteDevice: async ({ name }, call) => {
      const device = devices.named(name);
      devices.remove(name);
      await announce.device("delete", device, call);
      return {};
    },
  };
}

async function changed({ devices, announce }: House, old: Device, next: Device, call: Call): Promise<Device> {
  const made = devices.replace(old, next);
  // The service that loses a device must hear of it too.
  if (made.serviceName !== old.serviceName) await announce.device("delete", old, call);
  await announce.device("update", made, call);
  return made;
}

/** Asks device services whether they take devices; one that was silent once is not waited for again in the same request. */
function asking({ announce }: House, skip: boolean | undefined, call: Call): (device: Device) => Promise<void> {
  const silent = new Map<string, Failure>();
  return async (device) => {
    if (skip) return;
    const known = silent.get(device.serviceName);
    if (known) throw known;
    try {
      await announce.validate(device, call);
    } catch (error) {
      const failure = error as Failure;
      if (failure.code === METADATA_SERVICE_SILENT.code) silent.set(device.serviceName, failure);
      throw error;
    }
  };
}

function checkDevice({ services, profiles }: House, device: Device): void {
  services.named(device.serviceName);
  checkAutoEvents(device, device.profileName ? profiles.named(device.profileName) : undefined);
}

function listed({ devices }: House, filter: Filter, page: { offset: number; limit: number }) {
  const { totalCount, values } = devices.list(filter, page);
  return { totalCount, devices: values };
}
