/** What there is to measure on a machine, group by group. */
import type { Clock } from "../../kernel/clock.ts";
import type { ValueType } from "../../kernel/events/model.ts";
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

/** One value of the machine. `read` gives undefined where it cannot be had. */
export interface Gauge {
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
    const counted = count();
    if (counted === undefined) return undefined;
    const now = { count: counted, ms: clock.monotonicMs() };
    const before = last;
    last = now;
    if (!before) return 0;
    // A count that starts anew (an interface went and came) is no negative rate.
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

type Row = readonly [
  name: string,
  valueType: ValueType,
  units: string,
  description: string,
  read: () => number | undefined,
];

const group = (command: string, rows: readonly Row[]): Gauge[] =>
  rows.map(([name, valueType, units, description, read]) => ({ command, name, valueType, units, description, read }));

/** All gauges that a machine may have; `directory` is on the file system whose room is told. */
export function gaugesOf(clock: Clock, directory: string): Gauge[] {
  const memory = () => {
    const total = memoryBytes("MemTotal");
    const available = memoryBytes("MemAvailable");
    return total && available !== undefined ? rounded(100 * (1 - available / total)) : undefined;
  };
  const disk = () => {
    const there = room(directory);
    return there && rounded(100 * (1 - there.freeBytes / there.totalBytes));
  };
  const rate = (count: () => number | undefined) => rateOf(clock, count);
  return [
    ...cpuGauges(),
    ...group(
      "load",
      ["1", "5", "15"].map((minutes, i): Row => {
        const description = `Runnable tasks over ${minutes} minutes`;
        return [`Load${minutes}`, "Float64", "", description, () => loadAverages()?.[i]];
      }),
    ),
    ...group("memory", [
      ["MemoryTotal", "Uint64", "B", "Memory of the machine", () => memoryBytes("MemTotal")],
      ["MemoryAvailable", "Uint64", "B", "Memory that programs can still have", () => memoryBytes("MemAvailable")],
      ["MemoryUsed", "Float64", "%", "Memory that is not available", memory],
    ]),
    ...group("disk", [
      ["DiskFree", "Uint64", "B", "Room on the disk that Holdfast writes to", () => room(directory)?.freeBytes],
      ["DiskUsed", "Float64", "%", "Used part of that disk", disk],
      ["DiskReadRate", "Uint64", "B/s", "Bytes read from all disks", rate(() => diskBytes()?.read)],
      ["DiskWriteRate", "Uint64", "B/s", "Bytes written to all disks", rate(() => diskBytes()?.written)],
    ]),
    ...group("network", [
      ["NetworkReceiveRate", "Uint64", "B/s", "Bytes received, loopback apart", rate(() => networkBytes()?.received)],
      ["NetworkSendRate", "Uint64", "B/s", "Bytes sent, loopback apart", rate(() => networkBytes()?.sent)],
    ]),
    ...group(
      "pressure",
      (["cpu", "memory", "io"] as const).map((of): Row => {
        const name = `Pressure${of === "io" ? "IO" : of[0].toUpperCase() + of.slice(1)}`;
        return [name, "Float64", "%", `Time in which tasks waited for ${of}, last 10 s`, () => pressure(of)];
      }),
    ),
    ...group("uptime", [["Uptime", "Uint64", "s", "Seconds since the machine started", () => uptimeSeconds()]]),
    ...group(
      "temperature",
      thermometers().map(({ name, path }): Row => [
        name,
        "Float64",
        "C",
        "Temperature",
        () => rounded(temperature(path), 1),
      ]),
    ),
  ];
}
