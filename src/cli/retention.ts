/** How `holdfast retention` shows what is kept at the edge: how long, and how much of it there is. */
import type { Output } from "../kernel/contract.ts";
import type { coreData } from "../services/core-data/api.ts";
import type { Page } from "./page.ts";
import { type Cell, table } from "./table.ts";
import { plain } from "./text.ts";
import { count, duration, number, size } from "./units.ts";

type Kept = Output<typeof coreData, "retention">;
type Keep = Kept["sources"][number]["keeps"][number];

const MS_PER_S = 1_000;
/** Resources that are named where a source keeps some of them for another time. */
const NAMES_MAX = 4;
const BY = { rule: "the config's rule", device: "the device's AutoEvent", default: "core-data.keepHours" } as const;

/** Lays out sources, the largest first, under what the store takes. */
export function retentionLines(page: Page, { sizeBytes, sizeBytesMax, sources, totalCount }: Kept): string[] {
  const rows = sources.map((source): Cell[] => [
    plain(source.deviceName),
    plain(source.sourceName),
    number(source.events),
    number(source.readings),
    size(source.bytes),
    duration(source.oldestSeconds * MS_PER_S),
    [...source.keeps.map((keep) => keepWords(keep, source.keeps.length > 1)), ...capWords(source)].join("; "),
  ]);
  const columns = [
    { title: "DEVICE", min: 10 },
    { title: "SOURCE", min: 10, drop: 1 },
    { title: "EVENTS", right: true, drop: 3 },
    { title: "READINGS", right: true },
    { title: "BYTES", right: true },
    { title: "OLDEST", right: true, drop: 2 },
    { title: "KEPT", min: 12, wraps: true },
  ];
  return [
    `${page.style("bold", "kept")}  ${size(sizeBytes)} of ${size(sizeBytesMax)} at the most, of ${count(totalCount, "source")}`,
    ...(rows.length > 0 ? table(page, columns, rows) : []),
    ...(totalCount > rows.length ? [`${number(totalCount - rows.length)} more take less`] : []),
  ];
}

function keepWords({ resources, seconds, by }: Keep, isOneOfSeveral: boolean): string {
  const named = resources.slice(0, NAMES_MAX).map(plain).join(", ");
  const more = resources.length > NAMES_MAX ? ` and ${resources.length - NAMES_MAX} more` : "";
  return `${isOneOfSeveral ? `${named}${more}: ` : ""}${duration(seconds * MS_PER_S)} (${BY[by]})`;
}

const capWords = ({ eventsMin, eventsMax }: Kept["sources"][number]): string[] => [
  ...(eventsMin === undefined ? [] : [`the newest ${number(eventsMin)} always`]),
  ...(eventsMax === undefined ? [] : [`at most ${count(eventsMax, "event")}`]),
];
