/** The machine itself as a device: its profile, its AutoEvents, its values. */
import { arch, cpus, hostname } from "node:os";
import type { Clock } from "../../kernel/clock.ts";
import type { Device, DeviceProfile, DeviceResource } from "../../kernel/edgex.ts";
import type { Value } from "../../kernel/events/model.ts";
import type { Driver } from "../sdk/driver.ts";
import { gaugesOf } from "./gauges.ts";

const PROFILE = "Holdfast-Host";

export interface HostOptions {
  readonly clock: Clock;
  /** On the file system whose room is told. */
  readonly directory: string;
  readonly deviceName: string;
  readonly serviceName: string;
  /** Interval of the AutoEvents, as EdgeX writes it. */
  readonly interval: string;
}

/** Makes the driver; a gauge that gives nothing now is not part of this machine's profile. */
export function makeHostDriver({ clock, directory, deviceName, serviceName, interval }: HostOptions): Driver {
  const gauges = new Map(
    gaugesOf(clock, directory)
      .filter((g) => g.read() !== undefined)
      .map((g) => [g.name, g]),
  );
  const commands = [...new Set([...gauges.values()].map((g) => g.command))];
  const profile: DeviceProfile = {
    name: PROFILE,
    manufacturer: "Holdfast",
    model: arch(),
    description: "The machine that the node runs on",
    labels: ["host"],
    deviceResources: [...gauges.values()].map((g) => ({
      name: g.name,
      description: g.description,
      isHidden: false,
      properties: { valueType: g.valueType, readWrite: "R", ...(g.units ? { units: g.units } : {}) },
    })),
    deviceCommands: commands.map((name) => ({
      name,
      isHidden: false,
      readWrite: "R",
      resourceOperations: [...gauges.values()]
        .filter((g) => g.command === name)
        .map((g) => ({ deviceResource: g.name })),
    })),
  };
  const device: Device = {
    name: deviceName,
    description: `${hostname()}, ${cpus().length} CPUs`,
    adminState: "UNLOCKED",
    operatingState: "UP",
    labels: ["host"],
    serviceName,
    profileName: PROFILE,
    protocols: { host: { hostname: hostname() } },
    autoEvents: commands.map((sourceName) => ({ interval, sourceName, onChange: false })),
  };
  return {
    profiles: [profile],
    devices: [device],
    async read(_device: Device, resources: readonly DeviceResource[]): Promise<Value[]> {
      return resources.map((resource) => gauges.get(resource.name)?.read() ?? null);
    },
    validate(asked) {
      if (!("host" in asked.protocols))
        throw new Error(`device '${asked.name}' has no protocol 'host'; this service serves the machine it runs on`);
    },
  };
}
