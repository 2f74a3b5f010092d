/** Profiles and devices in a few words, for drivers that bring their own. */
import type { Device, DeviceProfile } from "../../kernel/edgex.ts";
import type { ValueType } from "../../kernel/events/model.ts";

export interface ResourceWords {
  readonly type: ValueType;
  readonly description?: string;
  readonly units?: string;
  /** R unless said. */
  readonly readWrite?: "R" | "W" | "RW";
  readonly minimum?: number;
  readonly maximum?: number;
}

/** Writes a profile: its resources by name, and a command `all` that reads those that can be read together. */
export function profileOf(name: string, resources: Readonly<Record<string, ResourceWords>>): DeviceProfile {
  const readable = Object.keys(resources).filter((resource) => resources[resource].readWrite !== "W");
  return {
    name,
    deviceResources: Object.entries(resources).map(([resource, words]) => {
      const { type: valueType, description = "", readWrite = "R", ...rest } = words;
      return { name: resource, description, isHidden: false, properties: { valueType, readWrite, ...rest } };
    }),
    deviceCommands: [
      {
        name: "all",
        isHidden: false,
        readWrite: "R",
        resourceOperations: readable.map((deviceResource) => ({ deviceResource })),
      },
    ],
  };
}

export interface DeviceWords {
  readonly name: string;
  readonly service: string;
  readonly profile: string;
  /** How the driver reaches it, by protocol; what a driver that needs none leaves out. */
  readonly protocols?: Device["protocols"];
  /** How often the command `all` is read and sent (EdgeX duration); never unless said. */
  readonly every?: string;
}

/** Writes a device that is unlocked and up. */
export const deviceOf = ({ name, service, profile, protocols, every }: DeviceWords): Device => ({
  name,
  adminState: "UNLOCKED",
  operatingState: "UP",
  serviceName: service,
  profileName: profile,
  protocols: protocols ?? { [service]: {} },
  autoEvents: every === undefined ? [] : [{ interval: every, sourceName: "all", onChange: false }],
});
