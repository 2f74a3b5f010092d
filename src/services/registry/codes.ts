/** The registry's error codes. */
import { code } from "../../kernel/error.ts";

export const REGISTRY_NAME_REFUSED = code(
  "REGISTRY_NAME_REFUSED",
  "forbidden",
  "A service registers under the name in its certificate only.",
);
export const REGISTRY_LEASE_UNKNOWN = code(
  "REGISTRY_LEASE_UNKNOWN",
  "not-found",
  "Register again; the lease has ended or the registry was restarted.",
);
export const REGISTRY_FULL = code(
  "REGISTRY_FULL",
  "limited",
  "Stop instances that are not needed; the message names the limit.",
);
export const REGISTRY_REVISION_GONE = code(
  "REGISTRY_REVISION_GONE",
  "gone",
  "Ask again without a revision: the answer then begins with all that is there.",
);
export const REGISTRY_INSTANCE_UNKNOWN = code(
  "REGISTRY_INSTANCE_UNKNOWN",
  "not-found",
  "Name a service or an instance that is registered; 'holdfast instances' lists them.",
);
export const REGISTRY_SERVICE_UNKNOWN = code(
  "REGISTRY_SERVICE_UNKNOWN",
  "not-found",
  "Register the service first (POST /api/v3/registry).",
);
export const REGISTRY_SERVICE_EXISTS = code(
  "REGISTRY_SERVICE_EXISTS",
  "conflict",
  "Change the registration that is there (PUT /api/v3/registry), or choose another serviceId.",
);
export const REGISTRY_KEY_INVALID = code(
  "REGISTRY_KEY_INVALID",
  "invalid",
  "Write keys of letters, digits and - _ ~ ; = . / %, percent-encoded as one segment of the path.",
);
export const REGISTRY_KEY_UNKNOWN = code(
  "REGISTRY_KEY_UNKNOWN",
  "not-found",
  "Write the key first (PUT /api/v3/kvs/key/...).",
);
export const REGISTRY_KEY_HAS_KEYS = code(
  "REGISTRY_KEY_HAS_KEYS",
  "conflict",
  "Name one of the keys below it, or remove all of them with prefixMatch=true.",
);
export const REGISTRY_VALUE_INVALID = code(
  "REGISTRY_VALUE_INVALID",
  "invalid",
  "Send a 'value' that is no empty object, within the limits that the message names.",
);
export const REGISTRY_FLEET_REFUSED = code(
  "REGISTRY_FLEET_REFUSED",
  "unavailable",
  "Correct 'core-keeper.fleet' in the config, or what it names, as the message says; the node works alone meanwhile.",
);
export const REGISTRY_FLEET_NAME_TAKEN = code(
  "REGISTRY_FLEET_NAME_TAKEN",
  "conflict",
  "Give each machine of a fleet a name of its own (node.name); this one is not shown to the others meanwhile.",
);
export const REGISTRY_FLEET_LEASE_LOST = code(
  "REGISTRY_FLEET_LEASE_LOST",
  "unavailable",
  "Wait: the node shows itself to the fleet again at once.",
);
