/** The gap ledger as a table: what never reached a destination, and why. */
import type { Gap } from "../services/cloud/api.ts";
import type { Page } from "./page.ts";
import { type Cell, table } from "./table.ts";
import { plain } from "./text.ts";
import { moment, msOf, number } from "./units.ts";

const REASONS: { readonly [reason in Gap["reason"]]: string } = {
  expired: "waited too long",
  "dropped-full": "the outbox was full",
  damaged: "the disk lost them",
  "cloud-restored": "the cloud lost them, and they were gone here",
  "dropped-by-person": "somebody let go of them",
  "dead-letters-full": "refused, and too many were",
  "destination-removed": "the destination was removed",
};

/** Lays out entries. What the disk lost was never read: then nobody knows how much it was. */
export function gapLines(page: Page, gaps: readonly Gap[]): string[] {
  const rows = gaps.map((gap): Cell[] => [
    moment(msOf(gap.atNs)),
    plain(gap.destination),
    gap.class,
    `${number(gap.from)}-${number(gap.to)}`,
    gap.pipelines.length === 0 ? "?" : number(gap.events),
    plain(gap.pipelines.join(", ")),
    REASONS[gap.reason],
  ]);
  const columns = [
    { title: "FOUND" },
    { title: "FOR" },
    { title: "CLASS" },
    { title: "BATCHES", right: true },
    { title: "EVENTS", right: true },
    { title: "OF", drop: 1 },
    { title: "BECAUSE", wraps: true, min: 12 },
  ];
  return table(page, columns, rows);
}
