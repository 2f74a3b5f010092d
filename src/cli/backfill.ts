/** How a backfill is asked for at the cloud, and how far it is. */
import { fail } from "../kernel/error.ts";
import type { Backfill } from "../services/cloud/backfill.api.ts";
import { COMMON, durationOf, readArguments } from "./arguments.ts";
import { CLI_USAGE } from "./exit.ts";
import type { Page } from "./page.ts";
import { type Cell, table } from "./table.ts";
import { plain } from "./text.ts";
import { ago, moment, msOf, number } from "./units.ts";

const NAMES = { type: "string", multiple: true } as const;

/** Reads the arguments of `holdfast cloud backfill`. CLI_USAGE. */
export function readBackfill(args: readonly string[], nowMs = Date.now()) {
  const options = {
    ...COMMON,
    from: { type: "string" },
    to: { type: "string" },
    device: NAMES,
    resource: NAMES,
  } as const;
  const { values, positionals } = readArguments(args, options, ["EDGE"]);
  const [edge = ""] = positionals;
  if (values.from === undefined) throw fail(CLI_USAGE, "--from is missing: the time that the range begins with");
  const body = {
    edge,
    devices: values.device ?? [],
    resources: values.resource ?? [],
    fromNs: nanosOf(values.from, "--from", nowMs),
    toNs: nanosOf(values.to ?? "0s", "--to", nowMs),
  };
  return { body, json: values.json === true, state: values.state };
}

/** A point in time, or how long ago. */
function nanosOf(text: string, name: string, nowMs: number): bigint {
  if (text === "0s") return BigInt(nowMs) * 1_000_000n;
  const atMs = /^\d{4}-/.test(text) ? Date.parse(text) : nowMs - durationOf(text, name);
  if (!Number.isFinite(atMs)) throw fail(CLI_USAGE, `${name} takes a time such as 2026-11-24T08:00:00Z, not '${text}'`);
  return BigInt(Math.round(atMs)) * 1_000_000n;
}

/** Lays out what a node was asked for, newest first. */
export function backfillLines(page: Page, backfills: readonly Backfill[], nowMs: number): string[] {
  const rows = backfills.map((b): Cell[] => [
    b.id,
    b.state === "failed" ? { text: b.state, style: "red" } : b.state,
    `${Math.floor(100 * b.share)} %`,
    number(b.queued),
    number(b.kept),
    number(b.known),
    ago(nowMs - b.askedAtMs),
    [
      `${moment(msOf(b.fromNs))} to ${moment(msOf(b.toNs))}`,
      ...[...b.devices, ...b.resources].map(plain),
      ...(b.reason === undefined ? [] : [plain(b.reason)]),
    ].join(", "),
  ]);
  const columns = [
    { title: "ID" },
    { title: "STATE" },
    { title: "THROUGH", right: true },
    { title: "SENT", right: true, drop: 2 },
    { title: "NEW", right: true },
    { title: "KNOWN", right: true, drop: 1 },
    { title: "ASKED", drop: 3 },
    { title: "RANGE", min: 12, wraps: true },
  ];
  return table(page, columns, rows);
}
