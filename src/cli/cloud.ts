/** What `holdfast cloud code`, `edges`, `readings`, `gaps`, `backfills` and `audit` ask of the cloud that runs on this machine, and how they show it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Call } from "../kernel/call.ts";
import type { Output as OutputOf } from "../kernel/contract.ts";
import { fail } from "../kernel/error.ts";
import { type Cloud, cloud } from "../services/cloud/api.ts";
import { BACKFILL_PREFIX } from "../services/cloud/backfill.api.ts";
import { COMMON, durationOf, readArguments, wholeNumber } from "./arguments.ts";
import { backfillLines, readBackfill } from "./backfill.ts";
import { CLI_USAGE, EXIT } from "./exit.ts";
import { inOrder } from "./feed.ts";
import { gapLines } from "./gap-lines.ts";
import { socketClient } from "./local-node.ts";
import { openHints, openPage, type Page } from "./page.ts";
import { columnsFor, readingLines } from "./reading-line.ts";
import { type Cell, table } from "./table.ts";
import { plain } from "./text.ts";
import { ago, count, duration, moment, number, size } from "./units.ts";

const CODE_LIFETIME = "1h";
const LIMIT = 20;
const LIMIT_MAX = 100_000;
const GAPS_MAX = 10_000;
const BACKFILLS_SHOWN_MAX = 1_000;
/** A clock that is off by more is shown in colour. */
const CLOCK_OFF_MS = 1_000;
/** The audit reads all that the cloud has of a node. */
const TIMEOUT_MS = 60_000;
const RANGES_SHOWN_MAX = 4;

type Ask = (args: readonly string[]) => Promise<number>;

/** Runs a question; CLI_USAGE for one that there is not. */
export async function askCloud(name: string, args: readonly string[]): Promise<number> {
  const ask = Object.hasOwn(QUESTIONS, name) ? QUESTIONS[name] : undefined;
  if (!ask) throw fail(CLI_USAGE, `there is no 'cloud ${name}'; there are: ${Object.keys(QUESTIONS).join(", ")}`);
  return ask(args);
}

const QUESTIONS: { readonly [name: string]: Ask } = {
  async code(args) {
    const { values } = readArguments(args, { ...COMMON, for: { type: "string" } });
    const lifetimeS = Math.max(1, Math.round(durationOf(values.for ?? CODE_LIFETIME, "--for") / 1_000));
    return withCloud(values.state, async ({ client, call, path }) => {
      const made = await client.newCode({ body: { lifetimeS } }, call());
      if (values.json) return openPage().json(made);
      const hints = openHints();
      hints?.line(
        hints.style(
          "dim",
          `good once, until ${moment(made.expiresAtMs)}; on the node to join: holdfast enroll https://HOST:${portOf(path) ?? "PORT"} CODE`,
        ),
      );
      openPage().line(made.code);
    });
  },
  async edges(args) {
    const { values } = readArguments(args, COMMON);
    return withCloud(values.state, async ({ client, call }) => {
      const found = await client.edges({}, call());
      if (values.json) return openPage().json(found);
      if (found.edges.length === 0)
        return openHints()?.line("No node is enrolled; 'holdfast cloud code' makes a code to enroll one with.");
      const page = openPage();
      page.lines(edgeTable(page, found.edges, Date.now()));
    });
  },
  async readings(args) {
    const { values, positionals } = readArguments(
      args,
      { ...COMMON, resource: { type: "string" }, limit: { type: "string" }, corrected: { type: "boolean" } },
      ["EDGE", "DEVICE"],
    );
    const [edge = "", device = ""] = positionals;
    const limit = wholeNumber(values.limit, { name: "--limit", min: 1, max: LIMIT_MAX, default: LIMIT });
    return withCloud(values.state, async ({ client, call }) => {
      const resource = values.resource === undefined ? {} : { resource: values.resource };
      const corrected = values.corrected ? { corrected: true } : {};
      const { totalCount, readings } = await client.readings(
        { edge, device, ...resource, ...corrected, offset: 0, limit },
        call(),
      );
      const found = { totalCount, readings: inOrder(readings) };
      const page = openPage();
      if (values.json) return page.json(found);
      if (readings.length === 0)
        return openHints()?.line(`The cloud has no readings of device '${plain(device)}' of '${plain(edge)}'.`);
      page.lines(readingLines(page, found.readings, { columns: columnsFor(readings), nowMs: Date.now() }));
    });
  },
  async gaps(args) {
    const { values, positionals } = readArguments(args, { ...COMMON, limit: { type: "string" } }, ["EDGE"]);
    const [edge = ""] = positionals;
    const limit = wholeNumber(values.limit, { name: "--limit", min: 1, max: GAPS_MAX, default: LIMIT });
    return withCloud(values.state, async ({ client, call }) => {
      const found = await client.gaps({ edge, limit }, call());
      const page = openPage();
      if (values.json) return page.json(found);
      if (found.totalCount === 0) return openHints()?.line(`'${plain(edge)}' has told of no gap.`);
      page.lines([
        ...gapLines(page, found.gaps),
        ...(found.totalCount > found.gaps.length ? [`${number(found.totalCount)} in all`] : []),
      ]);
    });
  },
  backfill: (args) => {
    const { body, json, state } = readBackfill(args);
    return withCloud(state, async ({ client, call }) => {
      const made = await client.backfill({ body }, call());
      if (json) return openPage().json(made);
      openHints()?.line(`'holdfast cloud backfills ${plain(body.edge)}' shows how far it is`);
      openPage().line(made.id);
    });
  },
  async backfills(args) {
    const options = { ...COMMON, limit: { type: "string" }, cancel: { type: "string" } } as const;
    const { values, positionals } = readArguments(args, options, ["EDGE"]);
    const [edge = ""] = positionals;
    const limit = wholeNumber(values.limit, { name: "--limit", min: 1, max: BACKFILLS_SHOWN_MAX, default: LIMIT });
    return withCloud(values.state, async ({ client, call }) => {
      if (values.cancel !== undefined) await client.cancelBackfill({ edge, id: values.cancel }, call());
      const found = await client.backfills({ edge, limit }, call());
      const page = openPage();
      if (values.json) return page.json(found);
      if (found.backfills.length === 0) return openHints()?.line(`'${plain(edge)}' was asked for nothing.`);
      page.lines(backfillLines(page, found.backfills, Date.now()));
    });
  },
  async audit(args) {
    const { values, positionals } = readArguments(args, COMMON, ["EDGE"]);
    const [edge = ""] = positionals;
    let whole = true;
    await withCloud(values.state, async ({ client, call }) => {
      const { publishers } = await client.audit({ edge }, call());
      whole = publishers.every(isWhole);
      const page = openPage();
      if (values.json) return page.json({ edge, publishers });
      page.lines(auditLines(page, edge, publishers));
    });
    return whole ? EXIT.fine : EXIT.failed;
  },
};

interface AtCloud {
  readonly client: Cloud;
  readonly path: string;
  readonly call: () => Call;
}

async function withCloud(state: string | undefined, work: (at: AtCloud) => Promise<void>): Promise<number> {
  const { client, call, close, path } = socketClient(cloud, "cloud.sock", state);
  try {
    await work({ client, path, call: () => call(TIMEOUT_MS) });
    return EXIT.fine;
  } finally {
    close();
  }
}

/** The cloud's port, which its state directory remembers. */
function portOf(path: string): number | undefined {
  try {
    const { cloudPort } = JSON.parse(readFileSync(join(path, "node.json"), "utf8")) as { cloudPort?: number };
    return cloudPort;
  } catch {
    // The hint says PORT instead.
    return undefined;
  }
}

type Edge = OutputOf<typeof cloud, "edges">["edges"][number];

/** Lays out the enrolled nodes. */
export function edgeTable(page: Page, edges: readonly Edge[], nowMs: number): string[] {
  const columns = [
    { title: "EDGE", min: 12 },
    { title: "SEEN" },
    { title: "READINGS", right: true },
    { title: "EVENTS", right: true, drop: 2 },
    { title: "BATCHES", right: true, drop: 3 },
    { title: "KEPT", right: true },
    { title: "TOOK", right: true, drop: 4 },
    { title: "CLOCK", right: true },
    { title: "ENROLLED", drop: 1 },
  ];
  const rows = edges.map((e): Cell[] => [
    plain(e.edge),
    e.lastSeenMs === undefined ? { text: "never", style: "yellow" } : ago(nowMs - e.lastSeenMs),
    number(e.readings),
    number(e.events),
    number(e.batches),
    size(e.bytes),
    e.dwellMs === undefined ? "-" : `${duration(e.dwellMs.p50)}, p99 ${duration(e.dwellMs.p99)}`,
    clockCell(e.clock),
    moment(e.enrolledAtMs),
  ]);
  return table(page, columns, rows);
}

/** How far a node's clock is off, where that is more than may be wrong about it. */
function clockCell(clock: Edge["clock"]): Cell {
  if (clock === undefined) return "-";
  const { aheadMs, errorMs } = clock;
  if (Math.abs(aheadMs) <= errorMs) return "right";
  const text = `${duration(Math.abs(aheadMs))} ${aheadMs > 0 ? "ahead" : "behind"}`;
  return Math.abs(aheadMs) > CLOCK_OFF_MS ? { text, style: "yellow" } : text;
}

type Publisher = OutputOf<typeof cloud, "audit">["publishers"][number];

/** Everything once, in order, and nothing between; of a backfill that is not here which was here already. */
const isWhole = ({ duplicates, outOfOrder, pipeline, ranges }: Publisher): boolean =>
  duplicates === 0 && outOfOrder === 0 && (ranges.length <= 1 || pipeline.startsWith(BACKFILL_PREFIX));

/** Lays out what the cloud has of a node. */
export function auditLines(page: Page, edge: string, publishers: readonly Publisher[]): string[] {
  if (publishers.length === 0) return [`the cloud has nothing of '${plain(edge)}'`];
  const rows = publishers.map((p): Cell[] => {
    const ranges = p.ranges.slice(0, RANGES_SHOWN_MAX).map(({ from, to }) => `${number(from)}-${number(to)}`);
    const more = p.ranges.length > RANGES_SHOWN_MAX ? `, ${p.ranges.length - RANGES_SHOWN_MAX} more` : "";
    return [
      plain(p.name),
      String(p.epoch),
      number(p.events),
      p.duplicates === 0 ? "0" : { text: number(p.duplicates), style: "red" },
      p.outOfOrder === 0 ? "0" : { text: number(p.outOfOrder), style: "red" },
      ranges.length > 1 ? { text: `${ranges.join(", ")}${more}`, style: "yellow" } : `${ranges.join(", ")}${more}`,
    ];
  });
  const columns = [
    { title: "PUBLISHER", min: 12 },
    { title: "EPOCH", right: true },
    { title: "EVENTS", right: true },
    { title: "TWICE", right: true },
    { title: "DISORDERED", right: true },
    { title: "SEQUENCES", min: 10, wraps: true },
  ];
  const readings = publishers.reduce((sum, p) => sum + p.readings, 0);
  const verdict = publishers.every(isWhole)
    ? page.style("green", "each once, in order, with no gap")
    : page.style(
        "yellow",
        "not all of it is in one piece: events that were filtered, lost, or are still to come are missing",
      );
  return [
    `${page.style("bold", plain(edge))}  ${count(readings, "reading")}: ${verdict}`,
    ...table(page, columns, rows),
  ];
}
