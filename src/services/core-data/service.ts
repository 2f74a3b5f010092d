/** The rules of core-data: what is asked, what is added, what is taken away. */
import type { Clock } from "../../kernel/clock.ts";
import { type Event, MAX_RESULT_COUNT, type Reading } from "../../kernel/edgex.ts";
import { fail, INPUT_INVALID } from "../../kernel/error.ts";
import { BlockBuilder } from "../../kernel/events/blocks.ts";
import { encodeBlocks } from "../../kernel/events/codec.ts";
import { eventToRow } from "../../kernel/events/edgex.ts";
import type { Log } from "../../kernel/log.ts";
import type { Bus } from "../bus/api.ts";
import type { CoreData } from "./api.ts";
import { DATA_EVENT_DUPLICATE, DATA_EVENT_MISMATCHED, DATA_EVENT_UNKNOWN, DATA_TIME_INVALID } from "./codes.ts";
import type { Holdings } from "./holdings.ts";
import type { Originals } from "./originals.ts";
import type { EventQuery } from "./query.ts";
import type { readingOperations } from "./reading.api.ts";
import type { Remover } from "./remove.ts";
import type { Selection } from "./selection.ts";

interface Needs {
  readonly query: EventQuery;
  readonly remover: Remover;
  readonly holdings: Holdings;
  readonly originals: Originals;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
}

interface Paged {
  readonly offset: number;
  readonly limit: number;
  readonly numeric: boolean;
}

/** Makes core-data. */
export const makeCoreData = (needs: Needs): CoreData => ({
  ...addition(needs),
  ...eventQuestions(needs),
  ...readingQuestions(needs),
  ...removal(needs),
  originals: async ({ body }) => needs.originals.page(body),
  retention: async ({ device, ...page }) =>
    needs.holdings.list({ ...(device === undefined ? {} : { device }), ...pageOf(page) }),
});

/** As EdgeX checks it: in lower case, of any version. */
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

const pageOf = ({ offset, limit }: Omit<Paged, "numeric">) => ({
  offset: Math.max(0, offset),
  limit: limit === -1 ? MAX_RESULT_COUNT : limit,
});

function addition({ bus }: Needs): Pick<CoreData, "addEvent"> {
  return {
    async addEvent({ serviceName, profileName, deviceName, sourceName, body }, call) {
      const { event } = body;
      const named = { profileName, deviceName, sourceName };
      for (const name of ["profileName", "deviceName", "sourceName"] as const) {
        if (named[name] !== event[name])
          throw fail(DATA_EVENT_MISMATCHED, `the path says ${name} '${named[name]}', the event '${event[name]}'`);
      }
      if (!UUID.test(event.id)) throw fail(INPUT_INVALID, `the event's id '${event.id.slice(0, 100)}' is no UUID`);
      const row = eventToRow(event);
      const builder = new BlockBuilder({ publisher: { name: serviceName, epoch: 1 } });
      builder.add(row.series, 1, row.origin, row.values, { ...row.extra, requestId: call.requestId });
      const blocks = encodeBlocks(builder.blocks());
      const { duplicate } = await bus.appendForeign({ body: { publisher: serviceName, blocks } }, call);
      if (duplicate) throw fail(DATA_EVENT_DUPLICATE, `an event with id '${event.id}' was added before`);
      return { id: event.id };
    },
  };
}

type EventQuestion =
  | "eventById"
  | "allEvents"
  | "eventsByDevice"
  | "eventsByTime"
  | "eventCount"
  | "eventCountByDevice";

function eventQuestions({ query }: Needs): Pick<CoreData, EventQuestion> {
  const list = async (selection: Selection, paged: Paged) => {
    const { totalCount, events } = query.events(selection, pageOf(paged));
    if (paged.numeric) for (const event of events) asNumbers(event.readings);
    return { totalCount, events };
  };
  return {
    async eventById({ id }): Promise<{ event: Event }> {
      const place = query.find(id, true);
      if (!place) throw fail(DATA_EVENT_UNKNOWN, `no event or reading has the id '${id}'`);
      return { event: query.eventAt(place) };
    },
    allEvents: (paged) => list({}, paged),
    eventsByDevice: ({ name, ...paged }) => list({ device: name }, paged),
    eventsByTime: ({ start, end, ...paged }) => list({ start, end }, paged),
    eventCount: async () => ({ Count: query.count({}, "events") }),
    eventCountByDevice: async ({ name }) => ({ Count: query.count({ device: name }, "events") }),
  };
}

function readingQuestions({ query }: Needs): Pick<CoreData, keyof typeof readingOperations> {
  const list = async (selection: Selection, paged: Paged) => {
    const { totalCount, readings } = query.readings(selection, pageOf(paged));
    if (paged.numeric) asNumbers(readings);
    return { totalCount, readings };
  };
  return {
    allReadings: (paged) => list({}, paged),
    readingsByDevice: ({ name, ...paged }) => list({ device: name }, paged),
    readingsByResource: ({ resourceName, ...paged }) => list({ resources: [resourceName] }, paged),
    readingsByTime: ({ start, end, ...paged }) => list({ start, end }, paged),
    readingsByResourceAndTime: ({ resourceName, start, end, ...paged }) =>
      list({ resources: [resourceName], start, end }, paged),
    readingsByDeviceAndTime: ({ name, start, end, ...paged }) => list({ device: name, start, end }, paged),
    readingsByDeviceAndResource: ({ name, resourceName, ...paged }) =>
      list({ device: name, resources: [resourceName] }, paged),
    readingsByDeviceResourceAndTime: ({ name, resourceName, start, end, ...paged }) =>
      list({ device: name, resources: [resourceName], start, end }, paged),
    readingCount: async () => ({ Count: query.count({}, "readings") }),
    readingCountByDevice: async ({ name }) => ({ Count: query.count({ device: name }, "readings") }),
  };
}

function removal({
  remover,
  clock,
  log,
}: Needs): Pick<CoreData, "deleteEvent" | "deleteEventsByDevice" | "forgetDevice" | "deleteEventsByAge"> {
  /** EdgeX answers 202 and does the work afterwards. */
  const later = (what: string, work: Promise<void>) =>
    void work.catch((error: unknown) => log.error({ err: error }, `${what} failed; ask for it again`));
  return {
    async deleteEvent({ id }) {
      if (!remover.one(id)) throw fail(DATA_EVENT_UNKNOWN, `no event has the id '${id}'`);
      return {};
    },
    async deleteEventsByDevice({ name }) {
      later(`removing the events of '${name}'`, remover.device(name));
      return {};
    },
    async forgetDevice({ name }) {
      later(`removing the events of '${name}'`, remover.forget(name));
      return {};
    },
    async deleteEventsByAge({ age }) {
      if (age < 0n) throw fail(DATA_TIME_INVALID, `an age of ${age} nanoseconds is not one`);
      later("removing events by age", remover.before(clock.wallNs() - age));
      return {};
    },
  };
}

const NUMERIC = /^(Int|Uint|Float)\d+$/;

/** EdgeX 4.0.2's `numeric=true`: the value of a number as a number, in place. */
function asNumbers(readings: Reading[]): void {
  for (const reading of readings) {
    if (typeof reading.value !== "string" || !NUMERIC.test(reading.valueType)) continue;
    // What JSON cannot say as a number (NaN, +Inf) stays the text that it is.
    const number = Number(reading.value);
    if (Number.isFinite(number)) (reading as { value?: unknown }).value = parsed(reading.value, number);
  }
}

const parsed = (text: string, number: number): number | bigint =>
  Number.isInteger(number) && !Number.isSafeInteger(number) && /^-?\d+$/.test(text) ? BigInt(text) : number;
