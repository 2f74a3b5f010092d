/** What the commands about kept readings show: `holdfast retention`, `holdfast cloud backfill` and `backfills`. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { backfillLines, readBackfill } from "./backfill.ts";
import { openPage, type Page } from "./page.ts";
import { retentionLines } from "./retention.ts";
import { widthOf } from "./text.ts";

const NOW_MS = new Date(2026, 10, 24, 12, 0, 0).getTime();
const terminal = (columns: number): Page =>
  openPage({ isTTY: true, columns, write: () => undefined }, { NO_COLOR: "1" });
const fits = (lines: readonly string[], columns: number): void => {
  for (const line of lines) assert.ok(widthOf(line) <= columns, `${widthOf(line)} columns: ${line}`);
};

test("what is kept is shown with how long and who says so, and fits a narrow terminal", () => {
  const source = { deviceName: "pump-1", sourceName: "all", events: 1_200, readings: 3_600, bytes: 7_000 };
  const vibration = { resources: ["Vibration"], seconds: 86_400, by: "rule" as const };
  const others = { resources: ["Flow", "Pressure"], seconds: 2_592_000, by: "default" as const };
  const shown = {
    sizeBytes: 9_000_000,
    sizeBytesMax: 1_000_000_000,
    totalCount: 3,
    sources: [
      { ...source, keeps: [others, vibration], oldestSeconds: 90_000 },
      { ...source, keeps: [{ ...others, by: "device" as const }], eventsMin: 5, eventsMax: 2_000, oldestSeconds: 60 },
    ],
  };
  const wide = retentionLines(terminal(200), shown).join("\n");
  assert.match(wide, /^kept {2}9\.0 MB of 1\.0 GB at the most, of 3 sources$/m);
  assert.match(wide, /Flow, Pressure: 30 d \(core-data\.keepHours\); Vibration: 1 d \(the config's rule\)$/m);
  assert.match(wide, /30 d \(the device's AutoEvent\); the newest 5 always; at most 2,000 events$/m);
  assert.match(wide, /^1 more take less$/m);
  fits(retentionLines(terminal(60), shown), 60);
});

test("a range is asked for by times or by how long ago, and its progress is one line", () => {
  const { body } = readBackfill(["pump-7", "--from", "2h", "--device", "a", "--device", "b"], NOW_MS);
  assert.deepEqual(body, {
    edge: "pump-7",
    devices: ["a", "b"],
    resources: [],
    fromNs: BigInt(NOW_MS - 7_200_000) * 1_000_000n,
    toNs: BigInt(NOW_MS) * 1_000_000n,
  });
  const dated = readBackfill(["e", "--from", "2026-11-24T08:00:00Z", "--to", "2026-11-24T09:00:00Z"], NOW_MS).body;
  assert.equal(dated.toNs - dated.fromNs, 3_600_000_000_000n);
  for (const wrong of [["e"], ["e", "--from", "2026-99-01T"], ["e", "--from", "soon"], ["--from", "2h"]])
    assert.throws(() => readBackfill(wrong, NOW_MS), { code: "CLI_USAGE" });
  const shown = { ...body, id: "0123456789ab", askedAtMs: NOW_MS - 5_000, queued: 4_000, kept: 3_000, known: 10 };
  const lines = backfillLines(terminal(120), [{ ...shown, state: "running", share: 0.557 }], NOW_MS);
  assert.match(lines[1], /^0123456789ab {2}running +55 % +4,000 +3,000 +10 +5 s ago +2026-11-24 10:00:00 to/);
  fits(backfillLines(terminal(80), [{ ...shown, state: "failed", share: 0, reason: "refused" }], NOW_MS), 80);
});
