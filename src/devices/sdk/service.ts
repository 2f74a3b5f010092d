/** The rules of a device service: who may be read and written, how a reading becomes an event. */
import type { Call } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import type { Device, DeviceProfile } from "../../kernel/edgex.ts";
import { asFailure, DEADLINE, Failure, fail, INTERNAL, UNAVAILABLE } from "../../kernel/error.ts";
import { rowToEvent } from "../../kernel/events/edgex.ts";
import type { Extra, Publisher, Series, Value } from "../../kernel/events/model.ts";
import { checkValue } from "../../kernel/events/values.ts";
import {
  DEVICE_FAILED,
  DEVICE_LOCKED,
  DEVICE_NOT_ALLOWED,
  DEVICE_UNKNOWN,
  DEVICE_VALUE_INVALID,
  type DeviceServiceApi,
} from "./api.ts";
import type { Driver } from "./driver.ts";
import { mapRead, type Part, type Source, Sources, valueToWrite } from "./source.ts";
import { transformRead } from "./transform.ts";

interface Needs {
  readonly driver: Driver;
  readonly clock: Clock;
  readonly publisher: Publisher;
  /** Tag of the publisher, for the ids of events. */
  readonly tag: number;
  device(this: void, name: string): Device | undefined;
  profile(this: void, name: string): DeviceProfile | undefined;
  /** Takes an event to the bus; gives its number. Undefined where there is no room. */
  emit(this: void, series: Series, origin: bigint, values: readonly Value[], extra?: Extra): number | undefined;
  /** Notes that a request pushed an event: its story goes on with that of the event. */
  pushed(this: void, call: Call, sequence: number): void;
}

export interface Taken {
  readonly series: Series;
  readonly origin: bigint;
  readonly values: Value[];
}

export interface DeviceRules {
  readonly api: DeviceServiceApi;
  /** Reads a source of a device, as an AutoEvent does; undefined where the device gave no reading at all. */
  take(this: void, device: Device, source: string, call: Call): Promise<Taken | undefined>;
}

/** Makes a device service of its driver. */
export function makeDeviceService(needs: Needs): DeviceRules {
  const { driver } = needs;
  const sources = new Sources();
  const sourceOf = (device: Device, name: string) => sources.of(device, needs.profile(device.profileName ?? ""), name);
  const take = (device: Device, name: string, call: Call) => read(needs, device, sourceOf(device, name), call);
  return {
    take,
    api: {
      async read({ deviceName, command, pushEvent, returnEvent }, call) {
        const taken = await take(deviceFor(needs, deviceName), command, call);
        if (!taken) throw fail(DEVICE_FAILED, `device '${deviceName}' gave no reading of '${command}'`);
        return answer(needs, taken, pushEvent, returnEvent, call);
      },
      async write({ deviceName, command, body }, call) {
        const device = deviceFor(needs, deviceName);
        const { source } = sourceOf(device, command);
        if (!driver.write || !source.readWrite.includes("W")) throw notAllowed(device, source, "written");
        const unknown = Object.keys(body).find((name) => !source.resources.some((r) => r.name === name));
        if (unknown !== undefined)
          throw fail(DEVICE_VALUE_INVALID, `'${command}' has no resource '${unknown.slice(0, 100)}'`);
        const values = source.parts.map((part) => ({ resource: part.resource, value: valueToWrite(part, body) }));
        await guarded(device, "write", call, async () => driver.write!(device, values, call));
        return {};
      },
    },
  };
}

/** DEVICE_UNKNOWN, DEVICE_LOCKED. */
function deviceFor(needs: Needs, name: string): Device {
  const device = needs.device(name);
  if (!device) throw fail(DEVICE_UNKNOWN, `device '${name}' is not one of this service's`);
  if (device.adminState === "LOCKED") throw fail(DEVICE_LOCKED, `device '${name}' is locked (adminState LOCKED)`);
  if (device.operatingState === "DOWN") throw fail(DEVICE_LOCKED, `device '${name}' is down (operatingState DOWN)`);
  return device;
}

const notAllowed = (device: Device, source: Source, done: string): Failure =>
  fail(DEVICE_NOT_ALLOWED, `'${source.name}' of device '${device.name}' cannot be ${done} (${source.readWrite})`);

async function read(
  { driver, clock }: Needs,
  device: Device,
  { source, series }: { source: Source; series: Series },
  call: Call,
): Promise<Taken | undefined> {
  if (!source.readWrite.includes("R")) throw notAllowed(device, source, "read");
  const got = await guarded(device, "read", call, async () => driver.read(device, source.resources, call));
  const values = source.parts.map((part, i) => reported(device, part, got[i]));
  return values.every((value) => value === undefined) ? undefined : { series, origin: stamp(clock), values };
}

/** What of a device's value is reported. A value that its type cannot hold is the device's fault: DEVICE_FAILED. */
function reported(device: Device, part: Part, value: Value): Value {
  const { name, properties } = part.resource;
  try {
    if (value === undefined || value === null) return value;
    return mapRead(part, checkValue(properties.valueType, transformRead(part.resource, value), name));
  } catch (error) {
    if (error instanceof Failure && error.kind !== "invalid") throw error;
    const words = error instanceof Error ? error.message : String(error);
    throw fail(DEVICE_FAILED, `device '${device.name}' said what cannot be: ${words}`, { cause: error });
  }
}

function answer({ emit, pushed, publisher, tag }: Needs, taken: Taken, push: boolean, isWanted: boolean, call: Call) {
  const { series, origin, values } = taken;
  const asked: Extra = { requestId: call.requestId };
  const sequence = push ? emit(series, origin, values, asked) : 0;
  if (sequence === undefined) throw fail(UNAVAILABLE, "the bus takes no events now", { retryAfterS: 1 });
  if (push) pushed(call, sequence);
  if (!isWanted) return {};
  // An event that is only answered has no number on the bus: its ids come from the request.
  const extra = push ? asked : { ids: idsOf(call, series) };
  const columns = values.map((value) => [value]);
  const row = { publisher, series, sequences: [sequence], origins: [origin], columns, extras: new Map([[0, extra]]) };
  return { event: rowToEvent(row, 0, tag) };
}

const idsOf = ({ requestId }: Call, series: Series): string[] => [
  requestId,
  ...series.resources.map((_, k) => `${requestId.slice(0, 32)}${(k + 1).toString(16).padStart(4, "0")}`),
];

/** Whole milliseconds: finer digits would be noise (no device is read that exactly), and cost 2.5 bytes an event for ever. */
export const stamp = (clock: Clock): bigint => BigInt(clock.wallMs()) * 1_000_000n;

/** Does a driver's work: what it throws becomes DEVICE_FAILED with its words, and one that hangs is not waited for beyond the call. */
async function guarded<T>(device: Device, what: string, call: Call, work: () => Promise<T>): Promise<T> {
  const { signal } = call;
  let stop: () => void = () => undefined;
  const late = new Promise<never>((_, reject) => {
    stop = () => reject(fail(DEADLINE, `device '${device.name}' did not ${what} in time`));
    signal.addEventListener("abort", stop, { once: true });
  });
  try {
    signal.throwIfAborted();
    return await Promise.race([work(), late]);
  } catch (error) {
    const failure = asFailure(error);
    if (failure.code !== INTERNAL.code) throw failure;
    const words = error instanceof Error ? error.message : String(error);
    throw fail(DEVICE_FAILED, `device '${device.name}' did not ${what}: ${words}`, { cause: error });
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
