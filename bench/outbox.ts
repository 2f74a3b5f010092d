/**
 * Reduction, outbox and uplink: each thing that they are to hold, measured (`BENCH_ONLY=enqueue,series`: only these parts).
 */
import { measureBacklog, measureSteady, measureWire } from "./outbox/backlog.ts";
import { measureEnqueue, measureWritten } from "./outbox/enqueue.ts";
import { measureRule } from "./outbox/rule.ts";
import { measureColumns, measureSingles } from "./outbox/series.ts";
import { report, type Row } from "./table.ts";

const parts: Record<string, () => Row[] | Promise<Row[]>> = {
  enqueue: measureEnqueue,
  written: measureWritten,
  series: measureColumns,
  singles: measureSingles,
  rule: measureRule,
  wire: measureWire,
  backlog: measureBacklog,
  steady: measureSteady,
};
const only = process.env["BENCH_ONLY"]?.split(",");
const rows: Row[] = [];
for (const [name, measure] of Object.entries(parts)) if (!only || only.includes(name)) rows.push(...(await measure()));
report("outbox", rows);
