/** What a device service of one's own is made of: `import { defineDevice, deviceOf, profileOf } from "@holdfast/edge/device"`. */
import { defineDevice as define } from "../devices/sdk/main.ts";
import { honourOpenTelemetry, observed } from "../kernel/opentelemetry/register.ts";

export { Type } from "typebox";
export type { Device, DeviceProfile, DeviceResource } from "../kernel/edgex.ts";
export { code, fail } from "../kernel/error.ts";
export type { Value } from "../kernel/events/model.ts";
export { field } from "../kernel/service.ts";
export { deviceOf, profileOf } from "../devices/sdk/described.ts";
export type { Driver } from "../devices/sdk/driver.ts";

honourOpenTelemetry();

/** Makes a device service's main (devices/sdk/main.ts); spans that it begins by OpenTelemetry's API are steps of its own. */
export const defineDevice: typeof define = (options) => observed(define(options));
