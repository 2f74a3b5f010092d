/** What a device service has to bring: how its devices are read and written. The SDK does the rest. */
import type { Call } from "../../kernel/call.ts";
import type { Device, DeviceProfile, DeviceResource } from "../../kernel/edgex.ts";
import type { Value } from "../../kernel/events/model.ts";

export interface Driver {
  /** Profiles and devices that the service brings along; added to core-metadata where they are not there. */
  readonly profiles: readonly DeviceProfile[];
  readonly devices: readonly Device[];
  /** Reads values, one per resource in their order; `undefined` leaves a reading out, `null` says it has no value now. */
  read(device: Device, resources: readonly DeviceResource[], call: Call): Promise<Value[]>;
  /** Writes values; absent where nothing can be written. */
  write?(device: Device, values: readonly { resource: DeviceResource; value: Value }[], call: Call): Promise<void>;
  /** Throws where a new device cannot be served (a protocol it lacks). */
  validate?(device: Device): void;
  /** Told of devices that came, changed or went. */
  changed?(device: Device, how: "add" | "update" | "delete"): void;
  stop?(): Promise<void>;
}
