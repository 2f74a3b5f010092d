/** What the commands that look for steps promise: filters as people write them, lines that fit, rates of just now. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { StoredSpan } from "../services/trace/api.ts";
import { topLines, withRates } from "./commands/top.ts";
import { CLI_USAGE } from "./exit.ts";
import { openPage } from "./page.ts";
import { factsOf, filterOf, sinceNs, spanLines } from "./spans.ts";
import { widthOf } from "./text.ts";

const terminal = openPage({ isTTY: true, columns: 80, write: () => undefined }, { NO_COLOR: "1" });
const NOW_MS = new Date(2026, 10, 24, 12, 0, 0).getTime();
const span: StoredSpan = {
  requestId: "0b1f5c3a-0000-4000-8000-000000000000",
  spanId: "00000000000000aa",
  service: "core-command",
  operation: "read",
  startNs: BigInt(NOW_MS) * 1_000_000n,
  durationUs: 1_500,
  status: 504,
  note: "DEADLINE",
  device: "pump\u001b[2J",
  queuedUs: 900,
  retries: 2,
  cache: "miss",
  bytes: 2_048,
};

test("a filter is read as people write it, and what is none is refused", () => {
  const filter = filterOf({ service: "bus", status: "503", least: "250us", text: "x" });
  assert.deepEqual(filter, { service: "bus", status: 503, leastUs: 250, text: "x" });
  assert.deepEqual(
    ["5ms", "2s", "1m30s"].map((least) => filterOf({ least }).leastUs),
    [5_000, 2e6, 90e6],
  );
  for (const wrong of [{ status: "fine" }, { status: "1000" }, { least: "5" }, { least: "-5ms" }])
    assert.throws(() => filterOf(wrong), { code: CLI_USAGE.code });
  assert.equal(sinceNs("1h", NOW_MS), BigInt(NOW_MS - 3_600_000) * 1_000_000n);
});

test("a step's line tells its request, its end, its device and what the time went by with, within the page", () => {
  const lines = spanLines(terminal, [span, { ...span, status: 0, operation: "r".repeat(60) }], NOW_MS);
  for (const line of lines) assert.ok(widthOf(line) <= 80, line);
  assert.ok(lines[1].includes("1.5 ms") && lines[1].includes("0b1f5c3a"), lines[1]);
  const [line = ""] = spanLines(openPage({ write: () => undefined }, {}), [span], NOW_MS, false);
  assert.match(line, /504, DEADLINE, pump, 900 us in the queue, tried again 2 times, cache: miss, 2\.0 kB$/);
  assert.deepEqual(factsOf({ ...span, queuedUs: undefined, retries: 0, cache: undefined, bytes: 0 }), []);
});

test("a rate is that of the time since the last look, and of all the time where nobody looked or the count began anew", () => {
  const times = { p50Us: 1, p90Us: 2, p99Us: 3, p999Us: 4, maxUs: 5, errors: 0 };
  const row = (operation: string, count: number, total: number) => ({
    service: "bus",
    operation,
    count,
    total,
    ...times,
  });
  const before = { rows: [row("append", 600, 1_000), row("follow", 60, 90)], atMs: 1_000 };
  const look = { rows: [row("append", 640, 1_040), row("follow", 60, 3), row("new", 6, 6)], atMs: 3_000 };
  const rates = (of: ReturnType<typeof withRates>) => of.map(({ perS }) => perS);
  assert.deepEqual(rates(withRates(look, 60, before)), [20, 1, 3]);
  assert.deepEqual(rates(withRates(look, 60, undefined)), [640 / 60, 1, 0.1]);
  const lines = topLines(terminal, withRates(look, 60, before), 5);
  assert.match(lines.join("\n"), /SERVICE +OPERATION +COUNT +A SECOND +FAILED +P50 +P90 +P99 +P99\.9 +MAX/);
  assert.match(lines[2], /bus +append +640 +20 +0 +1 us +2 us +3 us +4 us +5 us/);
});

test("pages of steps that follow each other stand under each other, however short their words", () => {
  const widths: number[] = [];
  const [, first] = spanLines(terminal, [{ ...span, operation: "core-data readingsByDevice" }], NOW_MS, true, widths);
  const [second] = spanLines(terminal, [{ ...span, service: "bus", operation: "keep" }], NOW_MS, false, widths);
  assert.equal(second.indexOf("0b1f5c3a"), first.indexOf("0b1f5c3a"));
});
