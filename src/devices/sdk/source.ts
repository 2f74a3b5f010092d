/** What a command's name stands for: resources of the profile, with what may be done with them. */
import type { Device, DeviceProfile, DeviceResource } from "../../kernel/edgex.ts";
import { fail } from "../../kernel/error.ts";
import type { Resource, Series, Value } from "../../kernel/events/model.ts";
import { checkValue, textToValue, valueToText } from "../../kernel/events/values.ts";
import { stringifyJson } from "../../kernel/json.ts";
import { DEVICE_COMMAND_UNKNOWN, DEVICE_VALUE_INVALID } from "./api.ts";
import { transformWrite } from "./transform.ts";

type Mappings = { readonly [from: string]: string };

/** One resource of a source. */
export interface Part {
  readonly resource: DeviceResource;
  /** EdgeX's mappings: texts of values to other texts when read, the other way round when written. */
  readonly mappings: Mappings | undefined;
  /** What is written where nothing is given. */
  readonly defaultValue: string | undefined;
}

export interface Source {
  readonly name: string;
  readonly readWrite: string;
  readonly parts: readonly Part[];
  readonly resources: readonly DeviceResource[];
}

/** Finds sources, and remembers them as long as their profile is the same. */
export class Sources {
  readonly #known = new WeakMap<DeviceProfile, Map<string, { source: Source; series: Map<string, Series> }>>();

  /** DEVICE_COMMAND_UNKNOWN. */
  of(device: Device, profile: DeviceProfile | undefined, name: string): { source: Source; series: Series } {
    if (!profile) throw fail(DEVICE_COMMAND_UNKNOWN, `device '${device.name}' has no profile that is known here`);
    let sources = this.#known.get(profile);
    if (!sources)
      this.#known.set(profile, (sources = new Map<string, { source: Source; series: Map<string, Series> }>()));
    let entry = sources.get(name);
    if (!entry) {
      const source = findSource(profile, name);
      if (!source)
        throw fail(DEVICE_COMMAND_UNKNOWN, `device profile '${profile.name}' has no command or resource '${name}'`);
      sources.set(name, (entry = { source, series: new Map() }));
    }
    let series = entry.series.get(device.name);
    if (!series) entry.series.set(device.name, (series = seriesOf(device, entry.source)));
    return { source: entry.source, series };
  }
}

/** A command of the profile, else a resource of this name. Hidden resources can be read too (EdgeX hides them from core-command only). */
function findSource(profile: DeviceProfile, name: string): Source | undefined {
  const resources = profile.deviceResources ?? [];
  const command = profile.deviceCommands?.find((c) => c.name === name);
  const made = (readWrite: string, parts: Part[]): Source => ({
    name,
    readWrite,
    parts,
    resources: parts.map((p) => p.resource),
  });
  if (command) {
    const parts: Part[] = [];
    for (const { deviceResource, mappings, defaultValue } of command.resourceOperations) {
      const resource = resources.find((r) => r.name === deviceResource);
      // A profile that somebody changed by hand; the command means nothing then.
      if (!resource) return undefined;
      const isMapped = mappings && Object.keys(mappings).length > 0;
      parts.push({
        resource,
        mappings: isMapped ? mappings : undefined,
        defaultValue: defaultValue || resource.properties.defaultValue || undefined,
      });
    }
    return made(command.readWrite, parts);
  }
  const resource = resources.find((r) => r.name === name);
  const part = resource && {
    resource,
    mappings: undefined,
    defaultValue: resource.properties.defaultValue || undefined,
  };
  return part && made(part.resource.properties.readWrite, [part]);
}

const seriesOf = (device: Device, source: Source): Series => ({
  deviceName: device.name,
  profileName: device.profileName ?? "",
  sourceName: source.name,
  resources: source.parts.map(({ resource: { name, properties }, mappings }): Resource => {
    const { units, mediaType } = properties;
    // What is mapped is a text (EdgeX: MapCommandValue makes a String of it).
    const valueType = mappings ? "String" : properties.valueType;
    return { name, valueType, ...(units ? { units } : {}), ...(mediaType ? { mediaType } : {}) };
  }),
});

/** Turns the text of a value into that which it stands for; one that is not in the mappings stays its own text. */
export function mapRead({ resource, mappings }: Part, value: Value): Value {
  if (!mappings || value === null || value === undefined) return value;
  const text = valueToText(value, resource.properties.valueType);
  return Object.hasOwn(mappings, text) ? mappings[text] : text;
}

/** Finds the value for a part in what a client sent: mapped back, of the resource's type, within its limits, as the device takes it. DEVICE_VALUE_INVALID. */
export function valueToWrite({ resource, mappings, defaultValue }: Part, body: { [name: string]: unknown }): Value {
  const { name } = resource;
  const { valueType } = resource.properties;
  const given = Object.hasOwn(body, name) ? body[name] : defaultValue;
  if (given === undefined || given === null)
    throw fail(DEVICE_VALUE_INVALID, `a value for resource '${name}' is missing`);
  const isObject = valueType === "Object" || valueType === "ObjectArray";
  if (isObject) {
    const value = typeof given === "string" ? textToValue(given, valueType, name) : (given as Value);
    return checkValue(valueType, value, name);
  }
  // EdgeX sends values as text; numbers and booleans as such are taken too.
  const sent = typeof given === "string" ? given : stringifyJson(given);
  // The order is opposite to that of reading: what the device's text stands for is what a client writes.
  const text = Object.entries(mappings ?? {}).find(([, meaning]) => meaning === sent)?.[0] ?? sent;
  const value = transformWrite(resource, checkValue(valueType, textToValue(text, valueType, name), name));
  // What scale and offset made of it must still be one that the resource's type can hold.
  return checkValue(valueType, value, name);
}
