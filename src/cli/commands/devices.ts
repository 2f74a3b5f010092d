/** `holdfast devices`: the devices and how they are; one device with its resources and commands. */
import type { Device, DeviceProfile, Reading } from "../../kernel/edgex.ts";
import { Failure, UNAVAILABLE } from "../../kernel/error.ts";
import { coreCommand, type DeviceCoreCommand } from "../../services/core-command/api.ts";
import { coreData } from "../../services/core-data/api.ts";
import { coreMetadata } from "../../services/core-metadata/api.ts";
import { COMMON, COMMON_HELP, readArguments, wholeNumber } from "../arguments.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { newest } from "../feed.ts";
import { type Link, withLink } from "../link.ts";
import { labelled, openHints, openPage, type Page } from "../page.ts";
import { type Cell, table } from "../table.ts";
import { plain } from "../text.ts";
import { ago, msOf } from "../units.ts";
import { valueOf } from "../value.ts";

const LIMIT = 100;
const LIMIT_MAX = 10_000;
const PAGE_MAX = 1_024;
/** Devices asked for their last reading at once. */
const AT_ONCE = 8;
/** Newest readings in which the newest of each resource is looked for. */
const LOOKED_AT = 512;

const help = `Usage: holdfast devices [NAME] [options]
       holdfast devices code NAME

Lists the devices: which service reads each, by which profile, whether it is up,
and its last reading. With a name: its resources with their newest values, and
the commands it takes. 'code' makes the one-time code with which a device asks
for its own certificate (EST, RFC 7030).

  --limit N        list at most so many (default ${LIMIT})
${COMMON_HELP}

With --json: {"totalCount": N, "devices": [{"device": ..., "last": reading or
null}]}; with a name {"device": ..., "profile": ..., "newest": [readings],
"commands": [...]}, all as EdgeX has them.

Examples:
  holdfast devices
  holdfast devices virtual-1`;

export const command: Command = {
  name: "devices",
  summary: "List the devices, or show one.",
  help,
  async run(args) {
    if (args[0] === "code" && args.length > 1) return (await import("../device-code.ts")).makeCode(args.slice(1));
    const { values, positionals } = readArguments(args, { ...COMMON, limit: { type: "string" } }, ["[NAME]"]);
    const limit = wholeNumber(values.limit, { name: "--limit", min: 1, max: LIMIT_MAX, default: LIMIT });
    const page = openPage();
    await withLink({ state: values.state, role: "viewer" }, async (link) => {
      const [name] = positionals;
      if (name !== undefined) {
        const about = await aboutDevice(link, name);
        if (values.json) return page.json(about);
        return page.lines(deviceLines(page, about, Date.now()));
      }
      const found = await listDevices(link, limit);
      if (values.json) return page.json(found);
      if (found.devices.length === 0)
        return openHints()?.line("There are no devices; a device service adds its own when it starts.");
      page.lines(deviceTable(page, found.devices, Date.now()));
      const left = found.totalCount - found.devices.length;
      if (left > 0) openHints()?.line(`... and ${left} more; --limit ${found.totalCount} lists them`);
    });
    return EXIT.fine;
  },
};

export interface Listed {
  readonly device: Device;
  readonly last: Reading | null;
}

async function listDevices(link: Link, limit: number): Promise<{ totalCount: number; devices: Listed[] }> {
  const metadata = link.service(coreMetadata);
  const devices: Device[] = [];
  let totalCount = 0;
  do {
    const page = await metadata.allDevices(
      { offset: devices.length, limit: Math.min(PAGE_MAX, limit - devices.length) },
      link.call(),
    );
    ({ totalCount } = page);
    devices.push(...page.devices);
    if (page.devices.length === 0) break;
  } while (devices.length < Math.min(limit, totalCount));
  const data = link.service(coreData);
  const listed: Listed[] = Array.from({ length: devices.length });
  const left = devices.entries();
  const worker = async (): Promise<void> => {
    for (const [at, device] of left) {
      const { readings } = await data.readingsByDevice(
        { name: device.name, offset: 0, limit: 1, numeric: false },
        link.call(),
      );
      listed[at] = { device, last: readings[0] ?? null };
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return { totalCount, devices: listed };
}

const stateOf = ({ adminState, operatingState }: Device): Cell => {
  if (adminState === "LOCKED") return { text: "locked", style: "yellow" };
  if (operatingState === "DOWN") return { text: "down", style: "red" };
  return operatingState === "UP" ? { text: "up", style: "green" } : { text: "unknown", style: "yellow" };
};

/** Lays out the list of devices. */
export function deviceTable(page: Page, devices: readonly Listed[], nowMs: number): string[] {
  const columns = [
    { title: "DEVICE", min: 12 },
    { title: "STATE" },
    { title: "SERVICE", min: 10 },
    { title: "PROFILE", min: 10, drop: 1 },
    { title: "SEEN" },
    { title: "LAST READING", min: 12 },
  ];
  const rows = devices.map(({ device, last }): Cell[] => [
    plain(device.name),
    stateOf(device),
    plain(device.serviceName),
    plain(device.profileName ?? ""),
    last ? ago(nowMs - msOf(last.origin)) : { text: "never", style: "yellow" },
    last ? `${plain(last.resourceName)} ${valueOf(last)}` : "",
  ]);
  return table(page, columns, rows);
}

export interface AboutDevice {
  readonly device: Device;
  readonly profile: DeviceProfile | null;
  /** The newest reading of each resource that has one. */
  readonly newest: readonly Reading[];
  /** What it takes; null where core-command did not answer. */
  readonly commands: DeviceCoreCommand["coreCommands"] | null;
}

async function aboutDevice(link: Link, name: string): Promise<AboutDevice> {
  const metadata = link.service(coreMetadata);
  const { device } = await metadata.deviceByName({ name }, link.call());
  const [profile, readings, commands] = await Promise.all([
    device.profileName
      ? metadata.profileByName({ name: device.profileName }, link.call()).then((answer) => answer.profile)
      : null,
    newestOfEach(link, device),
    link
      .service(coreCommand)
      .commandsOfDevice({ name }, link.call())
      .then((answer) => answer.deviceCoreCommand.coreCommands, orNull),
  ]);
  return { device, profile, newest: readings, commands };
}

/** What is known of a device is shown even where the service of commands is away. */
function orNull(error: unknown): null {
  if (error instanceof Failure && error.code === UNAVAILABLE.code) return null;
  throw error;
}

async function newestOfEach(link: Link, device: Device): Promise<Reading[]> {
  const { readings } = await newest(
    link.service(coreData),
    { device: device.name },
    { limit: LOOKED_AT, call: () => link.call() },
  );
  return [...new Map(readings.map((reading) => [reading.resourceName, reading])).values()];
}

/** Lays out one device. */
export function deviceLines(page: Page, about: AboutDevice, nowMs: number): string[] {
  const { device, profile, commands } = about;
  const state = stateOf(device) as { text: string; style: Parameters<Page["style"]>[0] };
  const events = (device.autoEvents ?? []).map(
    (e) => `${plain(e.sourceName)} every ${plain(e.interval)}${e.onChange ? " on change" : ""}`,
  );
  const head = labelled(page, [
    ["service", plain(device.serviceName)],
    [
      "profile",
      [device.profileName, profile?.description]
        .filter((text) => text !== undefined && text !== "")
        .map((text) => plain(text!))
        .join(": "),
    ],
    ...(events.length > 0 ? [["reads", events.join(", ")] as const] : []),
    ...(device.labels?.length ? [["labels", device.labels.map(plain).join(", ")] as const] : []),
  ]);
  return [
    `${page.style("bold", plain(device.name))}  ${page.style(state.style, state.text)}${device.description ? `  ${plain(device.description)}` : ""}`,
    ...head,
    "",
    ...resourceTable(page, about, nowMs),
    "",
    ...(commands === null
      ? ["core-command does not answer: the commands are not known"]
      : commandLines(page, device, commands)),
  ];
}

function resourceTable(page: Page, { profile, newest: readings }: AboutDevice, nowMs: number): string[] {
  const byName = new Map(readings.map((reading) => [reading.resourceName, reading]));
  const known = (profile?.deviceResources ?? []).map((r) => ({
    name: r.name,
    type: r.properties.valueType,
    access: r.properties.readWrite,
  }));
  // What was read by an earlier form of the profile is shown, too.
  const gone = readings
    .filter((r) => !known.some(({ name }) => name === r.resourceName))
    .map((r) => ({ name: r.resourceName, type: r.valueType, access: "" }));
  const rows = [...known, ...gone].map(({ name, type, access }): Cell[] => {
    const last = byName.get(name);
    return [
      plain(name),
      last ? valueOf(last) : { text: "-", style: "dim" },
      last ? ago(nowMs - msOf(last.origin)) : "",
      type,
      access,
    ];
  });
  if (rows.length === 0) return ["It has no resources."];
  return table(
    page,
    [
      { title: "RESOURCE", min: 14 },
      { title: "NEWEST", min: 12 },
      { title: "SEEN" },
      { title: "TYPE", drop: 1 },
      { title: "ACCESS", drop: 2 },
    ],
    rows,
  );
}

/** Commands of more than one resource; each resource can be commanded by its own name besides. */
function commandLines(page: Page, device: Device, commands: NonNullable<AboutDevice["commands"]>): string[] {
  const rows = commands
    .filter((c) => c.parameters.length !== 1 || c.parameters[0].resourceName !== c.name)
    .map((c): Cell[] => [
      plain(c.name),
      [c.get ? "read" : "", c.set ? "write" : ""].filter(Boolean).join(", "),
      c.parameters.map(({ resourceName }) => plain(resourceName)).join(", "),
    ]);
  if (commands.length === 0) return ["It takes no commands."];
  const name = shellWord(device.name);
  const example = commands.find((c) => c.get);
  return [
    ...(rows.length === 0
      ? []
      : [
          ...table(
            page,
            [{ title: "COMMAND", min: 14 }, { title: "WAYS" }, { title: "RESOURCES", min: 16, wraps: true }],
            rows,
          ),
          "",
        ]),
    ...(example ? [page.style("dim", `try: holdfast read ${name} ${shellWord(example.name)}`)] : []),
  ];
}

/** Writes a name as a shell takes it. */
export const shellWord = (text: string): string =>
  /^[\w.,:@%+/-]+$/.test(text) ? plain(text) : `'${plain(text).replaceAll("'", "'\\''")}'`;
