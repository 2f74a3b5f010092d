/** What waits and what has arrived: the bus, its followers, the outbox, the cloud, and what was lost. */
import type { Output as OutputOf } from "../kernel/contract.ts";
import { asFailure } from "../kernel/error.ts";
import { bus } from "../services/bus/api.ts";
import { type Destination, pipeline } from "../services/pipeline/api.ts";
import { gapLines } from "./gap-lines.ts";
import type { Link } from "./link.ts";
import type { Page, Style } from "./page.ts";
import { labelled } from "./page.ts";
import { type Cell, table } from "./table.ts";
import { plain } from "./text.ts";
import { ago, count, duration, number, size } from "./units.ts";

export type BusBacklog = OutputOf<typeof bus, "backlog">;
export type PipelineStatus = OutputOf<typeof pipeline, "status">;

/** Of each that could not be asked, why. */
export interface Backlog {
  readonly bus: BusBacklog | null;
  readonly pipeline: PipelineStatus | null;
  readonly unknown: readonly string[];
}

/** Asks both; one that is away does not hide the other. */
export async function askBacklog(link: Link): Promise<Backlog> {
  const [b, p] = await Promise.allSettled([
    link.service(bus).backlog({}, link.call()),
    link.service(pipeline).status({}, link.call()),
  ]);
  return {
    bus: b.status === "fulfilled" ? b.value : null,
    pipeline: p.status === "fulfilled" ? p.value : null,
    unknown: [b, p].flatMap((asked) => (asked.status === "rejected" ? [asFailure(asked.reason).message] : [])),
  };
}

/** Lays out the backlog. */
export function backlogLines(page: Page, backlog: Backlog, nowMs: number): string[] {
  return [
    ...(backlog.bus ? busLines(page, backlog.bus) : []),
    ...(backlog.pipeline?.destinations ?? []).flatMap((destination) => [
      "",
      ...destinationLines(page, destination, nowMs),
    ]),
    ...lossLines(page, backlog),
    ...backlog.unknown.map((why) => page.style("yellow", `not known: ${plain(why)}`)),
  ];
}

function busLines(page: Page, { first, last, sizeBytes, followers, mqttClients }: BusBacklog): string[] {
  const kept = last < first ? "empty" : `positions ${number(first)} to ${number(last)}, ${size(sizeBytes)} on the disk`;
  const rows = followers.map(({ name, position, connected }): Cell[] => {
    const behind = Math.max(0, last - position);
    return [
      plain(name),
      connected ? { text: "follows", style: "green" } : { text: "away", style: "yellow" },
      number(position),
      behind === 0 ? "0" : { text: number(behind), style: connected ? "bold" : "yellow" },
    ];
  });
  return [
    `${page.style("bold", "bus")}  ${kept}, ${count(mqttClients, "MQTT client")}`,
    ...(rows.length === 0
      ? ["nobody follows it"]
      : table(
          page,
          [
            { title: "FOLLOWER", min: 16 },
            { title: "STATE" },
            { title: "POSITION", right: true },
            { title: "BEHIND", right: true },
          ],
          rows,
        )),
  ];
}

const STATES: { readonly [state in Destination["state"]]: readonly [words: string, style: Style] } = {
  sending: ["sending", "green"],
  idle: ["up to date", "green"],
  offline: ["offline", "yellow"],
  holding: ["held back", "yellow"],
  "not-enrolled": ["not joined to a cloud", "yellow"],
};

function destinationLines(page: Page, destination: Destination, nowMs: number): string[] {
  const { waiting, acknowledged, wireBytes, deadLetters, reason, url, way } = destination;
  const [words, style] = STATES[destination.state];
  return [
    `${page.style("bold", plain(destination.name))}  ${page.style(style, words)}${url === "" ? "" : `  ${plain(url)}`}`,
    ...labelled(page, [
      ...(way === undefined ? [] : [["by", plain(way)] as const]),
      ...(reason === undefined ? [] : [["because", plain(reason)] as const]),
      [
        "waiting",
        waiting.batches === 0
          ? "nothing"
          : `${count(waiting.batches, "batch", "batches")}, ${size(waiting.bytes)}${waiting.oldestMs === undefined ? "" : `, the oldest for ${duration(waiting.oldestMs)}`}`,
      ],
      [
        "kept there",
        `${count(acknowledged.readings, "reading")} in ${count(acknowledged.events, "event")}, ${count(acknowledged.batches, "batch", "batches")}${acknowledged.lastAtMs === undefined ? "" : `, the last ${ago(nowMs - acknowledged.lastAtMs)}`}`,
      ],
      ["sent", `${size(wireBytes.sent)}, received ${size(wireBytes.received)} since the start, TLS included`],
      ...(deadLetters === 0
        ? []
        : [
            [
              "set aside",
              `${count(deadLetters, "batch", "batches")} that were refused for good ('holdfast deadletters')`,
            ] as const,
          ]),
    ]),
  ];
}

function lossLines(page: Page, backlog: Backlog): string[] {
  const losses = [
    ...(backlog.bus?.losses ?? []).map((loss) => ({ where: "bus", loss })),
    ...(backlog.pipeline?.losses ?? []).map((loss) => ({ where: "outbox", loss })),
  ];
  const gaps = backlog.pipeline?.gaps ?? { totalCount: 0, newest: [] };
  if (losses.length === 0 && gaps.totalCount === 0)
    return backlog.bus && backlog.pipeline ? ["", page.style("green", "nothing was lost")] : [];
  return [
    ...(losses.length === 0 ? [] : ["", page.style("red", count(losses.length, "loss", "losses"))]),
    ...losses.map(
      ({ where, loss }) =>
        `${where}  positions ${number(loss.firstPosition)} to ${loss.lastPosition === undefined ? "?" : number(loss.lastPosition)}, ${size(loss.bytes)}: ${plain(loss.reason)}`,
    ),
    ...(gaps.totalCount === 0 ? [] : gapPart(page, gaps)),
  ];
}

function gapPart(page: Page, { totalCount, newest }: PipelineStatus["gaps"]): string[] {
  const title = `${count(totalCount, "gap")} in what destinations have${totalCount > newest.length ? `; the newest ${newest.length}` : ""}`;
  return ["", page.style("red", title), ...gapLines(page, newest)];
}

/** Followers confirm where they are once a second: so much is on its way, and does not wait. */
const BEHIND_USUAL = 1_000;

/** Says in one line what waits, and in one how the cloud stands: for `holdfast status`. */
export function backlogInShort({ bus: b, pipeline: p }: Backlog, nowMs: number): { backlog: string; cloud: string } {
  const followers = (b?.followers ?? []).map(({ name, position, connected }) => ({
    name,
    connected,
    behind: Math.max(0, b!.last - position),
  }));
  const behind = followers.filter((f) => f.behind > (f.connected ? BEHIND_USUAL : 0));
  const held = (p?.destinations ?? []).reduce((sum, { waiting }) => sum + waiting.batches, 0);
  const parts = [
    ...behind.map((f) => `${plain(f.name)} is ${count(f.behind, "record")} behind`),
    ...(held > 0 ? [`${count(held, "batch waits", "batches wait")} in the outbox`] : []),
    ...((b?.losses.length ?? 0) + (p?.losses.length ?? 0) + (p?.gaps.totalCount ?? 0) > 0
      ? ["there were losses ('holdfast backlog' tells)"]
      : []),
  ];
  const clouds = (p?.destinations ?? []).map(({ state, acknowledged, url }) => {
    const last = acknowledged.lastAtMs === undefined ? "" : `, the last ${ago(nowMs - acknowledged.lastAtMs)}`;
    return `${STATES[state][0]}${state === "not-enrolled" ? "" : `, ${count(acknowledged.readings, "reading")} kept there${last}, ${plain(url)}`}`;
  });
  return {
    backlog: b && p ? (parts.length === 0 ? "nothing waits" : parts.join("; ")) : "not known",
    cloud: p ? clouds.join("; ") || "none" : "not known",
  };
}
