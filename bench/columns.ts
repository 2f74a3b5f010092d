/**
 * Events in columns: bytes per reading against `xz -9` and `bzip2 -9` on the text of the same batches, and what encoding
 * and decoding cost. Takes the five series of ../shared/data where they are, else says so and takes series made here.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { BlockBuilder } from "../src/kernel/events/blocks.ts";
import { decodeBlocks, encodeBlocks, headOfBlocks } from "../src/kernel/events/codec.ts";
import { eventToRow, rowToEvent } from "../src/kernel/events/edgex.ts";
import { eventId, parseId } from "../src/kernel/events/ids.ts";
import type { Block, Series } from "../src/kernel/events/model.ts";

const BATCH = 1000;
const DATA = path.join(import.meta.dirname, "..", "..", "shared", "data");
/** Bytes of time and value a reading that simple columns (prototypes of ours) took on the five series together. */
const REACH_BYTES = 5.2;
const WARM_MS = 300;
const MEASURED_US = 500_000;

interface Named {
  readonly name: string;
  readonly lines: string[];
}
interface Row {
  name: string;
  value: number | null;
  unit: string;
  reach: number;
  met: boolean | null;
  reason?: string;
}

function seriesOnDisk(): Named[] {
  const files = existsSync(DATA) ? readdirSync(DATA).filter((file) => file.endsWith(".csv")) : [];
  return files.map((file) => ({
    name: path.basename(file, ".csv"),
    lines: readFileSync(path.join(DATA, file), "utf8").trim().split("\n").slice(1),
  }));
}

/** Makes two series, always the same: a noisy temperature every five minutes, and a load with levels and gaps. */
function seriesMade(): Named[] {
  let state = 1;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const stamp = (minute: number) =>
    new Date(Date.UTC(2026, 0, 1) + minute * 60_000).toISOString().slice(0, 19).replace("T", " ");
  let level = 70;
  const noisy = Array.from({ length: 5000 }, (_, i) => `${stamp(i * 5)},${(level += random() - 0.5).toFixed(6)}`);
  let minute = 0;
  const levels = Array.from(
    { length: 5000 },
    () => `${stamp((minute += random() < 0.1 ? 15 : 5))},${0.132 + Math.floor(random() ** 3 * 8) / 500}`,
  );
  return [
    { name: "made: noisy temperature", lines: noisy },
    { name: "made: load in levels", lines: levels },
  ];
}

function batchesOf({ name, lines }: Named): { block: Block; text: string }[] {
  const series: Series = {
    deviceName: name,
    profileName: "Replay",
    sourceName: "Value",
    resources: [{ name: "Value", valueType: "Float64" }],
  };
  const batches: { block: Block; text: string }[] = [];
  for (let from = 0; from < lines.length; from += BATCH) {
    const part = lines.slice(from, from + BATCH);
    const builder = new BlockBuilder({ publisher: { name: "device-virtual", epoch: 209_000_000 } });
    part.forEach((line, i) => {
      const comma = line.indexOf(",");
      const origin = BigInt(Date.parse(`${line.slice(0, comma).replace(" ", "T")}Z`)) * 1_000_000n;
      builder.add(series, from + i + 1, origin, [Number(line.slice(comma + 1))]);
    });
    batches.push({ block: builder.blocks()[0], text: `${part.join("\n")}\n` });
  }
  return batches;
}

/** Bytes that a compressor of the machine makes of `text`; undefined where it is not installed. */
function compressed(tool: string, text: string): number | undefined {
  const ended = spawnSync(tool, ["-9", "-c"], { input: text, maxBuffer: 64 * 1024 * 1024 });
  return ended.status === 0 ? ended.stdout.length : undefined;
}

/** Microseconds that this thread has had of a processor: what a busy neighbour takes does not count. */
function cpuUs(): number {
  const { user, system } = process.threadCpuUsage();
  return user + system;
}

/** Microseconds of processor that `work` takes per unit. Long enough for a clock of ticks of 10 ms. */
function microseconds(units: number, work: () => void): number {
  const warm = performance.now() + WARM_MS;
  while (performance.now() < warm) work();
  const started = cpuUs();
  let calls = 0;
  do {
    for (let i = 0; i < 16; i++) work();
    calls += 16;
  } while (cpuUs() - started < MEASURED_US);
  return (cpuUs() - started) / calls / units;
}

const rows: Row[] = [];
const show = (cells: readonly (string | number)[]) =>
  console.log(
    cells
      .map((cell, i) =>
        i === 0 ? String(cell).padEnd(40) : (typeof cell === "number" ? cell.toFixed(3) : cell).padStart(11),
      )
      .join(""),
  );

function benchSizes(all: readonly Named[]): void {
  show(["bytes a reading, batches of 1000", "columns", "xz -9", "bzip2 -9", "EdgeX JSON", "encode us", "decode us"]);
  let bytes = 0;
  let readings = 0;
  let peers = 0;
  for (const named of all) {
    const batches = batchesOf(named);
    const count = named.lines.length;
    let ours = 0;
    let json = 0;
    const peer = { xz: 0, bzip2: 0 };
    for (const { block, text } of batches) {
      const encoded = encodeBlocks([block]);
      const [back] = decodeBlocks(encoded);
      if (back.columns[0].some((value, i) => !Object.is(value, block.columns[0][i])))
        throw new Error(`${named.name} did not come back`);
      ours += encoded.length;
      for (let row = 0; row < back.sequences.length; row++) json += jsonSize(back, row);
      for (const tool of ["xz", "bzip2"] as const) peer[tool] += compressed(tool, text) ?? Number.NaN;
    }
    const smaller = Math.min(...[peer.xz, peer.bzip2].filter((size) => size > 0));
    const { block } = batches[0];
    const encoded = encodeBlocks([block]);
    const encodeUs = microseconds(block.sequences.length, () => encodeBlocks([block]));
    const decodeUs = microseconds(block.sequences.length, () => decodeBlocks(encoded));
    show([named.name, ours / count, peer.xz / count, peer.bzip2 / count, json / count, encodeUs, decodeUs]);
    bytes += ours;
    readings += count;
    peers += smaller;
    const against = { name: named.name, unit: "x the smaller of xz -9 and bzip2 -9", reach: 1 };
    if (Number.isFinite(smaller)) rows.push({ ...against, value: ours / smaller, met: ours <= smaller });
    else rows.push({ ...against, value: null, met: null, reason: "neither xz nor bzip2 is installed" });
    rows.push({
      name: `encode ${named.name}`,
      value: encodeUs,
      unit: "us of CPU a reading",
      reach: 0.25,
      met: encodeUs <= 0.25,
    });
    rows.push({
      name: `decode ${named.name}`,
      value: decodeUs,
      unit: "us of CPU a reading",
      reach: 0.1,
      met: decodeUs <= 0.1,
    });
  }
  show(["all together", bytes / readings, "", Number.isFinite(peers) ? peers / readings : "-"]);
  rows.push({
    name: "time and value, all series",
    value: bytes / readings,
    unit: "bytes a reading",
    reach: REACH_BYTES,
    met: bytes / readings <= REACH_BYTES,
  });
}

/** Bytes of one event as EdgeX sends it, without its envelope. */
function jsonSize(block: Block, row: number): number {
  return JSON.stringify(rowToEvent(block, row, 1), (_, value: unknown) =>
    typeof value === "bigint" ? Number(value) : value,
  ).length;
}

function benchSingles(): void {
  const builder = new BlockBuilder({ publisher: { name: "device-host", epoch: 209_000_000 } });
  const series: Series = {
    deviceName: "Host",
    profileName: "Host",
    sourceName: "CpuBusy",
    resources: [{ name: "CpuBusy", valueType: "Float64", units: "%" }],
  };
  builder.add(series, 70_001, 1_785_000_000_123_456_789n, [12.625]);
  const blocks = builder.blocks();
  const encoded = encodeBlocks(blocks);
  const event = rowToEvent(blocks[0], 0, 1);
  const cases: [string, number, number, () => void][] = [
    [`one event (${encoded.length} bytes): encode and decode`, 15, 1, () => decodeBlocks(encodeBlocks(blocks))],
    ["one event: read its head", 15, 1, () => headOfBlocks(encoded)],
    ["an id: make and parse", 1, 1, () => parseId(eventId(1, 209_000_000, 70_001))],
    ["EdgeX event to row", 15, 1, () => eventToRow(event)],
    ["row to EdgeX event", 15, 1, () => rowToEvent(blocks[0], 0, 1)],
  ];
  console.log("");
  for (const [name, reach, units, work] of cases) {
    const value = microseconds(units, work);
    show([name, value, "us of CPU"]);
    rows.push({ name, value, unit: "us of CPU", reach, met: value <= reach });
  }
}

const onDisk = seriesOnDisk();
if (onDisk.length === 0) console.log(`(the series in ${DATA} are not here: made ones are measured)`);
benchSizes(onDisk.length > 0 ? onDisk : seriesMade());
benchSingles();
if (process.argv.includes("--json")) console.log(JSON.stringify({ bench: "columns", rows }));
