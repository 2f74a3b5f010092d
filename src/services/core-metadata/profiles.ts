/** The rules of device profiles. */
import { fail } from "../../kernel/error.ts";
import type { CoreMetadata } from "./api.ts";
import { METADATA_IN_USE, METADATA_PROFILE_UNKNOWN } from "./codes.ts";
import { created, each, type House } from "./entities.ts";
import { checkProfile } from "./rules.ts";

type Operations = Pick<
  CoreMetadata,
  "addProfiles" | "updateProfiles" | "allProfiles" | "profileByName" | "deleteProfile" | "resourceOfProfile"
>;

export function profileRules({ profiles, devices, store, announce, log }: House): Operations {
  return {
    addProfiles: ({ body }, call) =>
      each(body, call, log, async ({ profile }) => {
        checkProfile(profile);
        const made = profiles.insert(profile);
        await announce.profile("add", made, [], call);
        return created(made.id);
      }),
    updateProfiles: ({ body }, call) =>
      each(body, call, log, async ({ profile }) => {
        checkProfile(profile);
        // A PUT replaces: what is not sent is gone, but for the identity.
        const made = profiles.replace(profiles.either(profile), profile);
        await announce.profile("update", made, store.servicesOfProfile(made.name), call);
        return { statusCode: 200 };
      }),
    allProfiles: async ({ labels, ...page }) => {
      const { totalCount, values } = profiles.list(labels ? { labels } : {}, page);
      return { totalCount, profiles: values };
    },
    profileByName: async ({ name }) => ({ profile: profiles.named(name) }),
    deleteProfile: async ({ name }, call) => {
      const profile = profiles.named(name);
      const { totalCount, values } = devices.list({ profile: name }, { offset: 0, limit: 1 });
      if (totalCount > 0) {
        const users = `${totalCount} device(s), '${values[0].name}' among them`;
        throw fail(METADATA_IN_USE, `device profile '${name}' is used by ${users}`);
      }
      profiles.remove(name);
      await announce.profile("delete", profile, [], call);
      return {};
    },
    resourceOfProfile: async ({ profileName, resourceName }) => {
      const resource = (profiles.named(profileName).deviceResources ?? []).find((r) => r.name === resourceName);
      if (!resource)
        throw fail(METADATA_PROFILE_UNKNOWN, `device profile '${profileName}' has no resource '${resourceName}'`);
      return { resource };
    },
  };
}
