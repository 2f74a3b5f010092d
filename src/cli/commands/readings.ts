/** `holdfast readings`: the newest readings, and those that come. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Reading } from "../../kernel/edgex.ts";
import { DEADLINE, Failure, UNAVAILABLE } from "../../kernel/error.ts";
import { coreData } from "../../services/core-data/api.ts";
import { coreMetadata } from "../../services/core-metadata/api.ts";
import { COMMON, COMMON_HELP, durationOf, readArguments, wholeNumber } from "../arguments.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { Follower, newest, nextWaitMs, type Wanted } from "../feed.ts";
import { type Link, withLink } from "../link.ts";
import { openHints, openPage, type Page } from "../page.ts";
import { columnsFor, type NameColumns, readingLines } from "../reading-line.ts";
import { count } from "../units.ts";

const LIMIT = 20;
const LIMIT_SINCE = 1_000;
const LIMIT_MAX = 100_000;

const help = `Usage: holdfast readings [DEVICE] [options]

Shows the newest readings, the newest at the end: of a device, of a resource, or
of all.

  --resource NAME  of this resource alone
  --limit N        at most so many (default ${LIMIT}; with --since
                   ${LIMIT_SINCE})
  --since TIME     none older than so long: 30s, 10m, 1h30m, 7d
  --follow         go on with those that come, each once, until Ctrl-C
${COMMON_HELP}

With --json: {"totalCount": N, "readings": [...]} as EdgeX has them, oldest
first; with --follow one reading a line.

Examples:
  holdfast readings
  holdfast readings virtual-1 --resource Float64 --since 10m
  holdfast readings --follow --json | jq -r .value`;

const OPTIONS = {
  ...COMMON,
  resource: { type: "string" },
  limit: { type: "string" },
  since: { type: "string" },
  follow: { type: "boolean", short: "f" },
} as const;

export const command: Command = {
  name: "readings",
  summary: "Show the newest readings, or follow them.",
  help,
  async run(args) {
    const { values, positionals } = readArguments(args, OPTIONS, ["[DEVICE]"]);
    const [device] = positionals;
    const sinceMs = values.since === undefined ? undefined : durationOf(values.since, "--since");
    const limit = wholeNumber(values.limit, {
      name: "--limit",
      min: 1,
      max: LIMIT_MAX,
      default: sinceMs === undefined ? LIMIT : LIMIT_SINCE,
    });
    const wanted = { device, resource: values.resource };
    const page = openPage();
    return withLink({ state: values.state, role: "viewer" }, async (link) => {
      if (values.follow) return follow(link, wanted, { page, json: values.json ?? false, limit, sinceMs });
      const sinceNs = sinceMs === undefined ? undefined : nsBefore(sinceMs);
      const found = await newest(link.service(coreData), wanted, { limit, sinceNs, call: () => link.call() });
      if (device !== undefined && found.totalCount === 0) await requireDevice(link, device);
      if (values.json) page.json(found);
      else if (found.readings.length === 0) openHints()?.line(emptyWords(wanted, found.totalCount));
      else page.lines(readingLines(page, found.readings, { columns: columnsFor(found.readings), nowMs: Date.now() }));
      return EXIT.fine;
    });
  },
};

/** A device without readings may be one that there is not; METADATA_DEVICE_UNKNOWN. */
async function requireDevice(link: Link, name: string): Promise<void> {
  await link.service(coreMetadata).deviceExists({ name }, link.call());
}

const nsBefore = (ms: number): bigint => BigInt(Math.round(Date.now() - ms)) * 1_000_000n;

function emptyWords({ device, resource }: Wanted, totalCount: number): string {
  const what = `readings${device === undefined ? "" : ` of device '${device}'`}${resource === undefined ? "" : ` of resource '${resource}'`}`;
  return totalCount === 0
    ? `There are no ${what}; 'holdfast devices' lists the devices.`
    : `There are no ${what} in that time; ${count(totalCount, "is older", "are older")}.`;
}

interface FollowOptions {
  readonly page: Page;
  readonly json: boolean;
  readonly limit: number;
  readonly sinceMs: number | undefined;
}

/** Shows readings as they come; a node that is away for a while is waited for. Ends with Ctrl-C. */
async function follow(link: Link, wanted: Wanted, { page, json, limit, sinceMs }: FollowOptions): Promise<number> {
  const follower = new Follower(link.service(coreData), wanted);
  let columns: NameColumns = { device: 0, resource: 0 };
  let waiting = false;
  const show = (readings: readonly Reading[]): void => {
    columns = columnsFor(readings, columns);
    if (json) for (const reading of readings) page.json(reading);
    else page.lines(readingLines(page, readings, { columns, nowMs: Date.now() }));
  };
  for (let waitMs = 0, first = true; ; await sleep(waitMs)) {
    try {
      const { readings, missed } = await follower.look(link.call());
      if (missed) openHints()?.line("... more readings came than can be shown; some are left out");
      const since = sinceMs === undefined ? 0n : nsBefore(sinceMs);
      show(first ? readings.filter(({ origin }) => origin >= since).slice(-limit) : readings);
      waitMs = nextWaitMs(waitMs, readings.length);
      first = false;
      waiting = false;
    } catch (error) {
      if (first || !(error instanceof Failure) || (error.code !== UNAVAILABLE.code && error.code !== DEADLINE.code))
        throw error;
      if (!waiting) openHints()?.line(`... waiting: ${error.message}`);
      waiting = true;
      waitMs = nextWaitMs(waitMs, 0);
    }
  }
}
