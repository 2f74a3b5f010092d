/** Reads the machine: the kernel's own files, a few microseconds each. What a machine does not have is absent, not zero. */
import { readdirSync, readFileSync, statfsSync } from "node:fs";
import { join } from "node:path";

/** Reads a file of /proc or /sys; undefined where the machine (or the sandbox) does not have it. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // Absent on this machine: its resources are left out.
    return undefined;
  }
}

export interface CpuTimes {
  readonly user: number;
  readonly system: number;
  readonly idle: number;
  readonly iowait: number;
  readonly steal: number;
}

/** CPU time per mode since boot, in ticks (proc(5), /proc/stat): nice counts as user, the interrupts as system. */
export function cpuTimes(text = readText("/proc/stat")): CpuTimes | undefined {
  const line = text?.match(/^cpu +(.*)$/m)?.[1];
  if (!line) return undefined;
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = line
    .split(/\s+/)
    .map(Number);
  return { user: user + nice, system: system + irq + softirq, idle, iowait, steal };
}

/** Load averages over 1, 5 and 15 minutes. */
export const loadAverages = (text = readText("/proc/loadavg")): number[] | undefined =>
  text?.split(" ").slice(0, 3).map(Number);

/** A field of /proc/meminfo in bytes. */
export function memoryBytes(name: string, text = readText("/proc/meminfo")): number | undefined {
  const kib = text?.match(new RegExp(`^${name}: +(\\d+) kB`, "m"))?.[1];
  return kib === undefined ? undefined : Number(kib) * 1024;
}

/** Bytes read and written by whole disks since boot (proc(5), /proc/diskstats: sectors of 512 bytes). */
export function diskBytes(text = readText("/proc/diskstats")): { read: number; written: number } | undefined {
  if (!text) return undefined;
  const total = { read: 0, written: 0 };
  let disks = 0;
  for (const line of text.split("\n")) {
    const f = line.trim().split(/\s+/);
    // Partitions, loops and RAM disks would count the same bytes again.
    if (f.length < 10 || !/^(sd[a-z]+|vd[a-z]+|xvd[a-z]+|nvme\d+n\d+|mmcblk\d+)$/.test(f[2])) continue;
    disks++;
    total.read += Number(f[5]) * 512;
    total.written += Number(f[9]) * 512;
  }
  return disks > 0 ? total : undefined;
}

/** Bytes received and sent by all interfaces but loopback since boot. */
export function networkBytes(text = readText("/proc/self/net/dev")): { received: number; sent: number } | undefined {
  if (!text) return undefined;
  const total = { received: 0, sent: 0 };
  let interfaces = 0;
  for (const line of text.split("\n").slice(2)) {
    const [name, counters] = line.split(":");
    if (!counters || name.trim() === "lo") continue;
    const f = counters.trim().split(/\s+/).map(Number);
    interfaces++;
    total.received += f[0];
    total.sent += f[8];
  }
  return interfaces > 0 ? total : undefined;
}

/** Share of the last ten seconds in which some task waited for a resource, percent (PSI; kernel docs, accounting/psi). */
export function pressure(of: "cpu" | "memory" | "io", text = readText(`/proc/pressure/${of}`)): number | undefined {
  const some = text?.match(/^some avg10=([\d.]+)/m)?.[1];
  return some === undefined ? undefined : Number(some);
}

/** Seconds since boot. */
export function uptimeSeconds(text = readText("/proc/uptime")): number | undefined {
  return text === undefined ? undefined : Math.floor(Number(text.split(" ")[0]));
}

/** Room on the file system of a directory. */
export function room(directory: string): { totalBytes: number; freeBytes: number } | undefined {
  try {
    const s = statfsSync(directory);
    return { totalBytes: s.blocks * s.bsize, freeBytes: s.bavail * s.bsize };
  } catch {
    // The file system went (a card was pulled): no reading now.
    return undefined;
  }
}

export interface Thermometer {
  readonly name: string;
  readonly path: string;
}

const list = (directory: string): string[] => {
  try {
    return readdirSync(directory);
  } catch {
    // No such class on this machine.
    return [];
  }
};

/** Finds the machine's thermometers: thermal zones, then hardware monitors; names made unique and fit for a resource. */
export function thermometers(): Thermometer[] {
  const found = [
    ...list("/sys/class/thermal")
      .filter((n) => n.startsWith("thermal_zone"))
      .map((n) => ({
        name: readText(join("/sys/class/thermal", n, "type")) ?? n,
        path: join("/sys/class/thermal", n, "temp"),
      })),
    ...list("/sys/class/hwmon").flatMap((n) =>
      list(join("/sys/class/hwmon", n))
        .filter((f) => /^temp\d+_input$/.test(f))
        .map((f) => ({
          name: `${readText(join("/sys/class/hwmon", n, "name"))?.trim() ?? n}-${f.slice(0, -6)}`,
          path: join("/sys/class/hwmon", n, f),
        })),
    ),
  ];
  const seen = new Map<string, number>();
  return found.map(({ name, path }) => {
    const clean = `Temperature-${name.trim().replace(/[^A-Za-z0-9_-]+/g, "-")}`;
    const times = (seen.get(clean) ?? 0) + 1;
    seen.set(clean, times);
    return { name: times > 1 ? `${clean}-${times}` : clean, path };
  });
}

/** Degrees Celsius (sysfs gives thousandths). */
export function temperature(path: string): number | undefined {
  const text = readText(path);
  // Some sensors answer with nothing while they sleep.
  return text?.trim() ? Number(text) / 1000 : undefined;
}
