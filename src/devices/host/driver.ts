/** The machine itself as a device: its profile, its AutoEvents, its values. */
import { arch, cpus, hostname } from "node:os";
import type { Clock } from "../../kernel/clock.ts";
import type { Device, DeviceProfile, DeviceResource } from "../../kernel/edgex.ts";
import type { Value, ValueType } from "../../kernel/events/model.ts";
import type { Driver } from "../sdk/driver.ts";
import {
  type CpuTimes,
  cpuTimes,
  diskBytes,
  loadAverages,
  memoryBytes,
  networkBytes,
  pressure,
  room,
  temperature,
  thermometers,
  uptimeSeconds,
} from "./machine.ts";

const PROFILE = "Holdfast-Host";

/** One value of the machine. `read` gives undefined where it cannot be had. */
interface Gauge {
  readonly command: string;
  readonly name: string;
  readonly valueType: ValueType;
  readonly units: string;
  readonly description: string;
  read(): number | undefined;
}

const rounded = (value: number | undefined, digits = 2): number | undefined =>
  value === undefined || !Number.isFinite(value) ? undefined : Number(value.toFixed(digits));

/** Turns a growing count into a rate per second between two reads of this gauge. */
function rateOf(clock: Clock, count: () => number | undefined): () => number | undefined {
  let last: { count: number; ms: number } | undefined;
  return () => {
    const now = { count: count() ?? Number.NaN, ms: clock.monotonicMs() };
    const before = last;
    last = now;
    if (!before) return 0;
    return rounded(Math.max(0, ((now.count - before.count) * 1000) / Math.max(1, now.ms - before.ms)), 0);
  };
}

/** CPU share per mode since this was last asked (the first time: since boot); the five come from one sample. */
function cpuGauges(): Gauge[] {
  let last: CpuTimes = { user: 0, system: 0, idle: 0, iowait: 0, steal: 0 };
  let shares: CpuTimes | undefined;
  const sample = () => {
    const now = cpuTimes();
    if (!now) return;
    const delta = {
      user: now.user - last.user,
      system: now.system - last.system,
      idle: now.idle - last.idle,
      iowait: now.iowait - last.iowait,
      steal: now.steal - last.steal,
    };
    const all = delta.user + delta.system + delta.idle + delta.iowait + delta.steal;
    // Within one tick there is nothing to divide: the last shares stand.
    if (all <= 0) return;
    last = now;
    shares = {
      user: delta.user / all,
      system: delta.system / all,
      idle: delta.idle / all,
      iowait: delta.iowait / all,
      steal: delta.steal / all,
    };
  };
  const mode = (key: keyof CpuTimes, description: string): Gauge => ({
    command: "cpu",
    name: `Cpu${key[0].toUpperCase()}${key.slice(1)}`,
    valueType: "Float64",
    units: "%",
    description,
    read() {
      if (key === "user") sample();
      return shares && rounded(shares[key] * 100);
    },
  });
  return [
    mode("user", "CPU time in programs"),
    mode("system", "CPU time in the kernel"),
    mode("idle", "CPU time idle"),
    mode("iowait", "CPU time waiting for disks"),
    mode("steal", "CPU time taken by the hypervisor"),
  ];
}

function gaugesOf(clock: Clock, directory: string): Gauge[] {
  const gauge = (
    command: string,
    name: string,
    valueType: ValueType,
    units: string,
    description: string,
    read: () => number | undefined,
  ): Gauge => ({ command, name, valueType, units, description, read });
  const used = () => {
    const total = memoryBytes("MemTotal");
    const available = memoryBytes("MemAvailable");
    return total && available !== undefined ? rounded(100 * (1 - available / total)) : undefined;
  };
  const disk = () => room(directory);
  return [
    ...cpuGauges(),
    ...["1", "5", "15"].map((minutes, i) =>
      gauge(
        "load",
        `Load${minutes}`,
        "Float64",
        "",
        `Runnable tasks over ${minutes} minutes`,
        () => loadAverages()?.[i],
      ),
    ),
    gauge("memory", "MemoryTotal", "Uint64", "B", "Memory of the machine", () => memoryBytes("MemTotal")),
    gauge("memory", "MemoryAvailable", "Uint64", "B", "Memory that programs can still have", () =>
      memoryBytes("MemAvailable"),
    ),
    gauge("memory", "MemoryUsed", "Float64", "%", "Memory that is not available", used),
    gauge("disk", "DiskFree", "Uint64", "B", "Room on the disk that Holdfast writes to", () => disk()?.freeBytes),
    gauge("disk", "DiskUsed", "Float64", "%", "Used part of that disk", () =>
      rounded(disk() && 100 * (1 - disk()!.freeBytes / disk()!.totalBytes)),
    ),
    gauge(
      "disk",
      "DiskReadRate",
      "Uint64",
      "B/s",
      "Bytes read from all disks",
      rateOf(clock, () => diskBytes()?.read),
    ),
    gauge(
      "disk",
      "DiskWriteRate",
      "Uint64",
      "B/s",
      "Bytes written to all disks",
      rateOf(clock, () => diskBytes()?.written),
    ),
    gauge(
      "network",
      "NetworkReceiveRate",
      "Uint64",
      "B/s",
      "Bytes received, loopback apart",
      rateOf(clock, () => networkBytes()?.received),
    ),
    gauge(
      "network",
      "NetworkSendRate",
      "Uint64",
      "B/s",
      "Bytes sent, loopback apart",
      rateOf(clock, () => networkBytes()?.sent),
    ),
    ...(["cpu", "memory", "io"] as const).map((of) =>
      gauge(
        "pressure",
        `Pressure${of === "io" ? "IO" : of[0].toUpperCase() + of.slice(1)}`,
        "Float64",
        "%",
        `Time in which tasks waited for ${of}, last 10 s`,
        () => pressure(of),
      ),
    ),
    gauge("uptime", "Uptime", "Uint64", "s", "Seconds since the machine started", () => uptimeSeconds()),
    ...thermometers().map(({ name, path }) =>
      gauge("temperature", name, "Float64", "C", "Temperature", () => rounded(temperature(path), 1)),
    ),
  ];
}

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
