/** Error codes of core-metadata, shared by its nouns. */
import { code } from "../../kernel/error.ts";

export const METADATA_DEVICE_UNKNOWN = code(
  "METADATA_DEVICE_UNKNOWN",
  "not-found",
  "Check the device's name or id with 'holdfast devices'.",
);
export const METADATA_PROFILE_UNKNOWN = code(
  "METADATA_PROFILE_UNKNOWN",
  "not-found",
  "Add the profile first, or check its name.",
);
export const METADATA_SERVICE_UNKNOWN = code(
  "METADATA_SERVICE_UNKNOWN",
  "not-found",
  "Start the device service first (it adds itself), or check its name.",
);
export const METADATA_NAME_TAKEN = code(
  "METADATA_NAME_TAKEN",
  "conflict",
  "Choose another name, or change the one that is there.",
);
export const METADATA_IN_USE = code(
  "METADATA_IN_USE",
  "conflict",
  "Remove the devices and watchers that use it first.",
);
export const METADATA_INVALID = code("METADATA_INVALID", "invalid", "Correct what the message names.");
export const METADATA_DEVICE_REFUSED = code(
  "METADATA_DEVICE_REFUSED",
  "internal",
  "The device service refused the device; its message says why.",
);
export const METADATA_SERVICE_SILENT = code(
  "METADATA_SERVICE_SILENT",
  "unavailable",
  "Start the device service that is to own the device, or add with bypassValidation=true.",
);
export const METADATA_RANGE = code("METADATA_RANGE", "range", "Ask for an offset within totalCount.");
