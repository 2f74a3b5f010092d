/** What protection costs, and how long keys make anybody wait (`BENCH_ONLY=start,unseal,rotation`: only these parts). */
import { measureRotation } from "./security/rotation.ts";
import { measureStart } from "./security/start.ts";
import { measureUnseal } from "./security/unseal.ts";
import { report, type Row } from "./table.ts";

const parts: Record<string, () => Promise<Row[]>> = {
  start: measureStart,
  unseal: measureUnseal,
  rotation: measureRotation,
};
const only = process.env["BENCH_ONLY"]?.split(",");
const rows: Row[] = [];
for (const [name, measure] of Object.entries(parts)) if (!only || only.includes(name)) rows.push(...(await measure()));
report("security", rows);
