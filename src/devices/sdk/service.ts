/** The rules of a device service: which resources a command means, what may be read and written, how a reading becomes an event. */
import type { Call } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import type { Device, DeviceProfile, DeviceResource } from "../../kernel/edgex.ts";
import { asFailure, fail } from "../../kernel/error.ts";
import { rowToEvent } from "../../kernel/events/edgex.ts";
import type { Block, Extra, Publisher, Series, Value } from "../../kernel/events/model.ts";
import { checkValue, textToValue } from "../../kernel/events/values.ts";
import { stringifyJson } from "../../kernel/json.ts";
import {
  DEVICE_COMMAND_UNKNOWN,
  DEVICE_FAILED,
  DEVICE_LOCKED,
  DEVICE_NOT_ALLOWED,
  DEVICE_UNKNOWN,
  DEVICE_VALUE_INVALID,
  type DeviceServiceApi,
} from "./api.ts";
import type { Driver } from "./driver.ts";
import { transformRead, transformWrite } from "./transform.ts";

interface Needs {
  readonly driver: Driver;
  readonly clock: Clock;
  readonly publisher: Publisher;
  /** Tag of the publisher, for the ids of events that are answered but not sent. */
  readonly tag: number;
  device(name: string): Device | undefined;
  profile(name: string): DeviceProfile | undefined;
  /** Takes an event to the bus; gives its number, and when it is durable there. */
  emit(
    series: Series,
    origin: bigint,
    values: readonly Value[],
    extra?: Extra,
  ): { sequence: number; durable: Promise<void> };
}

export interface Taken {
  readonly series: Series;
  readonly origin: bigint;
  readonly values: Value[];
}

/** What a command name stands for, with what it may be used for. */
interface Source {
  readonly name: string;
  readonly readWrite: string;
  readonly resources: readonly DeviceResource[];
  readonly mappings: readonly ({ readonly [from: string]: string } | null | undefined)[];
}

export interface DeviceRules {
  readonly api: DeviceServiceApi;
  /** Reads a source of a device, as an AutoEvent does. */
  take(device: Device, source: string, call: Call): Promise<Taken>;
}

/** Makes a device service of its driver. */
export function makeDeviceService(needs: Needs): DeviceRules {
  const { driver, clock, emit, publisher, tag } = needs;
  const cached = new WeakMap<DeviceProfile, Map<string, { source: Source; series: Map<string, Series> }>>();

  const deviceFor = (name: string): Device => {
    const device = needs.device(name);
    if (!device) throw fail(DEVICE_UNKNOWN, `device '${name}' is not one of this service's`);
    if (device.adminState === "LOCKED") throw fail(DEVICE_LOCKED, `device '${name}' is locked (adminState LOCKED)`);
    if (device.operatingState === "DOWN") throw fail(DEVICE_LOCKED, `device '${name}' is down (operatingState DOWN)`);
    return device;
  };
  const sourceOf = (device: Device, name: string) => {
    const profile = needs.profile(device.profileName ?? "");
    if (!profile) throw fail(DEVICE_COMMAND_UNKNOWN, `device '${device.name}' has no profile that is known here`);
    let sources = cached.get(profile);
    if (!sources) cached.set(profile, (sources = new Map()));
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
  };

  async function take(device: Device, name: string, call: Call): Promise<Taken> {
    const { source, series } = sourceOf(device, name);
    if (!source.readWrite.includes("R"))
      throw fail(DEVICE_NOT_ALLOWED, `'${name}' of device '${device.name}' cannot be read (${source.readWrite})`);
    const read = await guarded(device, "read", () => driver.read(device, source.resources, call));
    const values = source.resources.map((resource, i) => {
      const value = transformRead(resource, read[i]);
      if (value === undefined || value === null) return value;
      return mapped(checkValue(resource.properties.valueType, value, resource.name), source.mappings[i]);
    });
    return { series, origin: stamp(clock), values };
  }

  const api: DeviceServiceApi = {
    async read({ deviceName, command, pushEvent, returnEvent }, call) {
      const { series, origin, values } = await take(deviceFor(deviceName), command, call);
      let sequence = 0;
      let extra: Extra = { ids: ["", ...series.resources.map(() => undefined)] };
      if (pushEvent) {
        extra = { requestId: call.requestId };
        ({ sequence } = emit(series, origin, values, extra));
      } else extra = { ids: idsOf(call, series) };
      if (!returnEvent) return {};
      return { event: rowToEvent(oneRow(publisher, series, sequence, origin, values, extra), 0, tag) };
    },
    async write({ deviceName, command, body }, call) {
      const device = deviceFor(deviceName);
      const { source } = sourceOf(device, command);
      if (!driver.write || !source.readWrite.includes("W"))
        throw fail(
          DEVICE_NOT_ALLOWED,
          `'${command}' of device '${deviceName}' cannot be written (${source.readWrite})`,
        );
      const values = source.resources.map((resource) => ({ resource, value: valueFor(resource, body) }));
      const unknown = Object.keys(body).find((name) => !source.resources.some((r) => r.name === name));
      if (unknown !== undefined)
        throw fail(DEVICE_VALUE_INVALID, `'${command}' has no resource '${unknown.slice(0, 100)}'`);
      await guarded(device, "write", () => driver.write!(device, values, call));
      return {};
    },
  };
  return { api, take };
}

/** Whole milliseconds: finer digits would be noise (no device is read that exactly), and cost 2.5 bytes an event for ever. */
export const stamp = (clock: Clock): bigint => BigInt(clock.wallMs()) * 1_000_000n;

/** A command of the profile, else a resource of this name. Hidden resources can be read too (EdgeX hides them from core-command only). */
function findSource(profile: DeviceProfile, name: string): Source | undefined {
  const resources = profile.deviceResources ?? [];
  const command = profile.deviceCommands?.find((c) => c.name === name);
  if (command) {
    const of = command.resourceOperations.map((operation) =>
      resources.find((r) => r.name === operation.deviceResource)!,
    );
    return {
      name,
      readWrite: command.readWrite,
      resources: of,
      mappings: command.resourceOperations.map((o) => o.mappings),
    };
  }
  const resource = resources.find((r) => r.name === name);
  return resource && { name, readWrite: resource.properties.readWrite, resources: [resource], mappings: [undefined] };
}

const seriesOf = (device: Device, source: Source): Series => ({
  deviceName: device.name,
  profileName: device.profileName ?? "",
  sourceName: source.name,
  resources: source.resources.map(({ name, properties: { valueType, units, mediaType } }) => ({
    name,
    valueType,
    ...(units ? { units } : {}),
    ...(mediaType ? { mediaType } : {}),
  })),
});

/** EdgeX's mappings turn a text value into another one. */
const mapped = (value: Value, mappings: { readonly [from: string]: string } | null | undefined): Value =>
  typeof value === "string" && mappings && Object.hasOwn(mappings, value) ? mappings[value] : value;

function valueFor(resource: DeviceResource, body: { [name: string]: unknown }): Value {
  const { valueType, defaultValue } = resource.properties;
  const given = Object.hasOwn(body, resource.name) ? body[resource.name] : defaultValue || undefined;
  if (given === undefined) throw fail(DEVICE_VALUE_INVALID, `a value for resource '${resource.name}' is missing`);
  const isObject = valueType === "Object" || valueType === "ObjectArray";
  // EdgeX sends values as text; numbers and booleans as such are taken too.
  const value =
    isObject && typeof given !== "string"
      ? (given as Value)
      : textToValue(typeof given === "string" ? given : stringifyJson(given), valueType, resource.name);
  return transformWrite(resource, checkValue(valueType, value, resource.name));
}

/** What a driver throws becomes DEVICE_FAILED with its words. */
async function guarded<T>(device: Device, what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const failure = asFailure(error);
    if (failure.code !== "KERNEL_INTERNAL") throw failure;
    throw fail(
      DEVICE_FAILED,
      `device '${device.name}' did not ${what}: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    );
  }
}

/** An event that is only answered has no number on the bus: its ids come from the request. */
const idsOf = (call: Call, series: Series): (string | undefined)[] => [
  call.requestId,
  ...series.resources.map((_, k) => `${call.requestId.slice(0, 32)}${(k + 1).toString(16).padStart(4, "0")}`),
];

const oneRow = (
  publisher: Publisher,
  series: Series,
  sequence: number,
  origin: bigint,
  values: Value[],
  extra: Extra,
): Block => ({
  publisher,
  series,
  sequences: [sequence],
  origins: [origin],
  columns: values.map((value) => [value]),
  extras: new Map([[0, extra]]),
});
