/** Virtual devices: random numbers of every type, values that can be written, and recorded series played again. */
import { basename } from "node:path";
import type { Device, DeviceProfile, DeviceResource } from "../../kernel/edgex.ts";
import type { Value, ValueType } from "../../kernel/events/model.ts";
import type { Driver } from "../sdk/driver.ts";
import { draw, readSeries, seeded } from "./series.ts";

const RANDOM_TYPES: readonly ValueType[] = [
  "Bool",
  "Int8",
  "Int16",
  "Int32",
  "Int64",
  "Uint8",
  "Uint16",
  "Uint32",
  "Uint64",
  "Float32",
  "Float64",
  "String",
  "Binary",
  "Object",
];
const RANDOM = "Holdfast-Virtual";
const REPLAY = "Holdfast-Replay";

const random: DeviceProfile = {
  name: RANDOM,
  manufacturer: "Holdfast",
  description: "A random value of every type; what is written stays until the node stops",
  labels: ["virtual"],
  deviceResources: RANDOM_TYPES.map((valueType) => ({
    name: valueType,
    description: `A ${valueType}`,
    isHidden: false,
    properties: {
      valueType,
      readWrite: "RW",
      ...(valueType === "Binary" ? { mediaType: "application/octet-stream" } : {}),
    },
  })),
  deviceCommands: [
    {
      name: "integers",
      isHidden: false,
      readWrite: "RW",
      resourceOperations: RANDOM_TYPES.filter((t) => /int/i.test(t)).map((deviceResource) => ({ deviceResource })),
    },
    {
      name: "floats",
      isHidden: false,
      readWrite: "RW",
      resourceOperations: [{ deviceResource: "Float32" }, { deviceResource: "Float64" }],
    },
  ],
};

const replay: DeviceProfile = {
  name: REPLAY,
  manufacturer: "Holdfast",
  description: "A recorded series, played again from its start when it ends",
  labels: ["virtual", "replay"],
  deviceResources: [
    {
      name: "value",
      description: "The series' next value",
      isHidden: false,
      properties: { valueType: "Float64", readWrite: "R" },
    },
  ],
  deviceCommands: [],
};

export interface VirtualOptions {
  readonly serviceName: string;
  readonly interval: string;
  readonly seed: number;
  /** Files of timestamp,value; each becomes a device named like the file. */
  readonly replay: readonly string[];
  readonly replayInterval: string;
}

/** Makes the driver. Throws where a replay file cannot be read. */
export function makeVirtualDriver(options: VirtualOptions): Driver {
  const draws = seeded(options.seed);
  const written = new Map<string, Value>();
  const base = { adminState: "UNLOCKED", operatingState: "UP", serviceName: options.serviceName } as const;
  const series = new Map(
    options.replay.map((path) => [basename(path).replace(/\.csv$/, ""), { values: readSeries(path), at: 0 }]),
  );
  const device: Device = {
    ...base,
    name: "virtual-1",
    profileName: RANDOM,
    labels: ["virtual"],
    protocols: { virtual: { kind: "random" } },
    autoEvents: [{ interval: options.interval, sourceName: "floats", onChange: false }],
  };
  const replayed = [...series.keys()].map((name): Device => ({
    ...base,
    name,
    profileName: REPLAY,
    labels: ["virtual", "replay"],
    protocols: { virtual: { kind: "replay" } },
    autoEvents: [{ interval: options.replayInterval, sourceName: "value", onChange: false }],
  }));
  const keyOf = (of: Device, resource: DeviceResource) => `${of.name}\u0000${resource.name}`;
  const next = (name: string): Value => {
    const played = series.get(name);
    if (!played) return null;
    const value = played.values[played.at];
    played.at = (played.at + 1) % played.values.length;
    return value;
  };
  return {
    profiles: series.size > 0 ? [random, replay] : [random],
    devices: [device, ...replayed],
    async read(of, resources) {
      if (of.profileName === REPLAY) return resources.map(() => next(of.name));
      return resources.map((resource) => written.get(keyOf(of, resource)) ?? draw(resource, draws));
    },
    async write(of, values) {
      for (const { resource, value } of values) written.set(keyOf(of, resource), value);
    },
    validate(asked) {
      if (!("virtual" in asked.protocols)) throw new Error(`device '${asked.name}' has no protocol 'virtual'`);
    },
  };
}
