/**
 * Events in columns: bytes per reading against `xz -9` and `bzip2 -9` on the text of the same batches, the same quantised,
 * and what encoding and decoding cost. Takes the five series of ../shared/data where they are, else says so and takes
 * series made here.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { BlockBuilder } from "../../src/kernel/events/blocks.ts";
import { decodeBlocks, encodeBlocks, headOfBlocks } from "../../src/kernel/events/codec.ts";
import { eventToRow, rowToEvent } from "../../src/kernel/events/edgex.ts";
import { eventId, parseId } from "../../src/kernel/events/ids.ts";
import type { Block, Series } from "../../src/kernel/events/model.ts";
import { makeReduction } from "../../src/services/pipeline/reduce/reduction.ts";
import { type Row, rowOf } from "../table.ts";

const BATCH = 1000;
const DATA = path.join(import.meta.dirname, "..", "..", "..", "shared", "data");
/** Bytes of time and value a reading that simple columns (prototypes of ours) took on the five series together. */
const REACH_BYTES = 5.2;
/** The tolerance of quantising, as a share of each series' range, and the bytes a reading that it is to take. */
const TOLERANCE = 0.01;
const REACH_QUANTISED_BYTES = 1.5;
const REACH_ENCODE_US = 0.25;
const REACH_DECODE_US = 0.1;
const WARM_ROUNDS = 3;
const ROUNDS = 5;
const ROUND_US = 120_000;

interface Named {
  readonly name: string;
  readonly lines: string[];
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
      builder.add(series, from + i + 1, origin, [valueOf(line)]);
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

/**
 * Microseconds of processor that `work` takes per unit: the least of some rounds, since a busy neighbour takes the caches
 * and half of the core. Each round is long enough for a clock of ticks of 10 ms.
 */
function microseconds(units: number, work: () => void): number {
  let least = Infinity;
  // The first rounds warm up: by the processor's time, not the wall's, of which there may be little to have.
  for (let round = -WARM_ROUNDS; round < ROUNDS; round++) {
    const started = cpuUs();
    let calls = 0;
    do {
      for (let i = 0; i < 16; i++) work();
      calls += 16;
    } while (cpuUs() - started < ROUND_US);
    const took = (cpuUs() - started) / calls / units;
    if (round >= 0 && took < least) least = took;
  }
  return least;
}

const show = (cells: readonly (string | number)[]) =>
  console.log(
    cells
      .map((cell, i) =>
        i === 0 ? String(cell).padEnd(40) : (typeof cell === "number" ? cell.toFixed(3) : cell).padStart(11),
      )
      .join(""),
  );

const valueOf = (line: string) => Number(line.slice(line.indexOf(",") + 1));

/** Bytes of the batches when their values are quantised to a share of the range of all, and the largest error made. */
function quantised({ name, lines }: Named, batches: readonly { block: Block }[]): number {
  const values = lines.map(valueOf);
  const tolerance = TOLERANCE * (Math.max(...values) - Math.min(...values));
  const reduction = makeReduction({ function: "Quantise", resources: ["*"], tolerance });
  let bytes = 0;
  for (const { block } of batches) bytes += encodeBlocks(reduction.push(block)).length;
  const { errorMax } = reduction.report();
  if (!((errorMax as number) <= tolerance))
    throw new Error(`${name} was quantised by ${errorMax}; ${tolerance} is allowed`);
  return bytes;
}

interface Sizes {
  readonly ours: number;
  readonly xz: number;
  readonly bzip2: number;
  readonly json: number;
  readonly quantised: number;
}

/** Bytes of a series in batches, in each way. Fails when a value does not come back. */
function sizesOf(named: Named, batches: readonly { block: Block; text: string }[]): Sizes {
  const sum = { ours: 0, xz: 0, bzip2: 0, json: 0 };
  for (const { block, text } of batches) {
    const encoded = encodeBlocks([block]);
    const [back] = decodeBlocks(encoded);
    if (back.columns[0].some((value, i) => !Object.is(value, block.columns[0][i])))
      throw new Error(`${named.name} did not come back`);
    sum.ours += encoded.length;
    for (let row = 0; row < back.sequences.length; row++) sum.json += jsonSize(back, row);
    for (const tool of ["xz", "bzip2"] as const) sum[tool] += compressed(tool, text) ?? Number.NaN;
  }
  return { ...sum, quantised: quantised(named, batches) };
}

/** Measures the columns: bytes of each series against compressors and quantised, and microseconds of CPU. */
export function measureColumns(): Row[] {
  const onDisk = seriesOnDisk();
  if (onDisk.length === 0) console.log(`(the series in ${DATA} are not here: made ones are measured)`);
  const all = onDisk.length > 0 ? onDisk : seriesMade();
  const heads = ["columns", "xz -9", "bzip2 -9", "EdgeX JSON", "quantised", "encode us", "decode us"];
  show(["bytes a reading, batches of 1000", ...heads]);
  const rows: Row[] = [];
  const total = { readings: 0, ours: 0, smaller: 0, quantised: 0 };
  for (const named of all) {
    const batches = batchesOf(named);
    const count = named.lines.length;
    const sizes = sizesOf(named, batches);
    const smaller = Math.min(...[sizes.xz, sizes.bzip2].filter((size) => size > 0));
    const { block } = batches[0];
    const encoded = encodeBlocks([block]);
    const encodeUs = microseconds(block.sequences.length, () => encodeBlocks([block]));
    const decodeUs = microseconds(block.sequences.length, () => decodeBlocks(encoded));
    const perReading = [sizes.ours, sizes.xz, sizes.bzip2, sizes.json, sizes.quantised].map((size) => size / count);
    show([named.name, ...perReading, encodeUs, decodeUs]);
    total.readings += count;
    total.ours += sizes.ours;
    total.smaller += smaller;
    total.quantised += sizes.quantised;
    rows.push(againstPeers(named.name, sizes.ours, smaller));
    rows.push(rowOf(`encode ${named.name}`, encodeUs, "us of CPU a reading", REACH_ENCODE_US));
    rows.push(rowOf(`decode ${named.name}`, decodeUs, "us of CPU a reading", REACH_DECODE_US));
  }
  const perReading = (bytes: number) => bytes / total.readings;
  const peers = Number.isFinite(total.smaller) ? perReading(total.smaller) : "-";
  show(["all together", perReading(total.ours), "", peers, "", perReading(total.quantised)]);
  rows.push(rowOf("time and value, all series", perReading(total.ours), "bytes a reading", REACH_BYTES));
  const name = `quantised at +-${100 * TOLERANCE} % of the range, all series`;
  rows.push(rowOf(name, perReading(total.quantised), "bytes a reading", REACH_QUANTISED_BYTES));
  return rows;
}

function againstPeers(name: string, ours: number, smaller: number): Row {
  const row = { name, unit: "x the smaller of xz -9 and bzip2 -9", reach: 1 };
  if (Number.isFinite(smaller)) return { ...row, value: ours / smaller, met: ours <= smaller };
  return { ...row, value: null, met: null, reason: "neither xz nor bzip2 is installed" };
}

/** Bytes of one event as EdgeX sends it, without its envelope. */
function jsonSize(block: Block, row: number): number {
  return JSON.stringify(rowToEvent(block, row, 1), (_, value: unknown) =>
    typeof value === "bigint" ? Number(value) : value,
  ).length;
}

/** Measures what one event costs: encoded, decoded, and as EdgeX has it. */
export function measureSingles(): Row[] {
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
  return cases.map(([name, reach, units, work]) => rowOf(name, microseconds(units, work), "us of CPU", reach));
}
