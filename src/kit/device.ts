/** What a device service of one's own is made of: `import { defineDevice, deviceOf, profileOf } from "@holdfast/edge/device"`. */
export { Type } from "typebox";
export type { Device, DeviceProfile, DeviceResource } from "../kernel/edgex.ts";
export { code, fail } from "../kernel/error.ts";
export type { Value } from "../kernel/events/model.ts";
export { field } from "../kernel/service.ts";
export { deviceOf, profileOf } from "../devices/sdk/described.ts";
export type { Driver } from "../devices/sdk/driver.ts";
export { defineDevice } from "../devices/sdk/main.ts";
