/** The rules of metadata: who may be added, changed and removed, and who is told. */
import { fail } from "../../kernel/error.ts";
import type { CoreMetadata } from "./api.ts";
import { METADATA_IN_USE } from "./codes.ts";
import { deviceRules } from "./devices.ts";
import { created, each, Entities, given, type House, type Needs } from "./entities.ts";
import { profileRules } from "./profiles.ts";
import { checkService } from "./rules.ts";

/** Makes core-metadata of its store and its way to tell others. */
export function makeCoreMetadata(needs: Needs): CoreMetadata {
  const house: House = {
    ...needs,
    devices: new Entities("device", needs),
    profiles: new Entities("profile", needs),
    services: new Entities("service", needs),
  };
  return {
    ...deviceRules(house),
    ...profileRules(house),
    ...serviceRules(house),
    // None can be added yet, so none is there: what a device service asks at its start is answered truly.
    watchersByService: async () => ({ totalCount: 0, provisionWatchers: [] }),
  };
}

type ServiceOperation = "addServices" | "patchServices" | "allServices" | "serviceByName" | "deleteService";

function serviceRules({ services, devices, announce, log }: House): Pick<CoreMetadata, ServiceOperation> {
  return {
    addServices: ({ body }, call) =>
      each(body, call, log, async ({ service }) => {
        checkService(service);
        const made = services.insert(service);
        await announce.service("add", made, call);
        return created(made.id);
      }),
    patchServices: ({ body }, call) =>
      each(body, call, log, async ({ service }) => {
        const old = services.either(service);
        const changed = { ...old, ...given(service) };
        checkService(changed);
        const made = services.replace(old, changed);
        await announce.service("update", made, call);
        return { statusCode: 200 };
      }),
    allServices: async ({ labels, ...page }) => {
      const { totalCount, values } = services.list(labels ? { labels } : {}, page);
      return { totalCount, services: values };
    },
    serviceByName: async ({ name }) => ({ service: services.named(name) }),
    deleteService: async ({ name }, call) => {
      const service = services.named(name);
      const { totalCount, values } = devices.list({ service: name }, { offset: 0, limit: 1 });
      if (totalCount > 0) {
        const owned = `${totalCount} device(s), '${values[0].name}' among them`;
        throw fail(METADATA_IN_USE, `device service '${name}' owns ${owned}`);
      }
      services.remove(name);
      await announce.service("delete", service, call);
      return {};
    },
  };
}
