/** The rules of core-data: what is asked, what is added, what is taken away. */
import type { Clock } from "../../kernel/clock.ts";
import { MAX_RESULT_COUNT } from "../../kernel/edgex.ts";
import { fail } from "../../kernel/error.ts";
import { BlockBuilder } from "../../kernel/events/blocks.ts";
import { encodeBlocks } from "../../kernel/events/codec.ts";
import { eventToRow } from "../../kernel/events/edgex.ts";
import type { Log } from "../../kernel/log.ts";
import type { Bus } from "../bus/api.ts";
import type { CoreData } from "./api.ts";
import { DATA_EVENT_DUPLICATE, DATA_EVENT_MISMATCHED, DATA_EVENT_UNKNOWN } from "./codes.ts";
import type { EventQuery, Selection } from "./query.ts";
import type { Remover } from "./remove.ts";

interface Needs {
  readonly query: EventQuery;
  readonly remover: Remover;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
}

interface Paged {
  readonly offset: number;
  readonly limit: number;
}

/** Makes core-data. */
export function makeCoreData({ query, remover, bus, clock, log }: Needs): CoreData {
  const limitOf = (limit: number) => (limit === -1 ? MAX_RESULT_COUNT : limit);
  const events = async (selection: Selection, { offset, limit }: Paged) =>
    query.events(selection, offset, limitOf(limit));
  const readings = async (selection: Selection, { offset, limit }: Paged) =>
    query.readings(selection, offset, limitOf(limit));
  /** EdgeX answers 202 and does the work afterwards. */
  const later = (what: string, work: Promise<void>) =>
    void work.catch((error: unknown) => log.error({ err: error }, `${what} failed; ask for it again`));
  return {
    async addEvent({ serviceName, profileName, deviceName, sourceName, body }, call) {
      const { event } = body;
      for (const [name, meant, sent] of [
        ["profileName", profileName, event.profileName],
        ["deviceName", deviceName, event.deviceName],
        ["sourceName", sourceName, event.sourceName],
      ] as const) {
        if (meant !== sent) throw fail(DATA_EVENT_MISMATCHED, `the path says ${name} '${meant}', the event '${sent}'`);
      }
      const row = eventToRow(event);
      const builder = new BlockBuilder({ publisher: { name: serviceName, epoch: 1 } });
      builder.add(row.series, 1, row.origin, row.values, { ...row.extra, requestId: call.requestId });
      const { duplicate } = await bus.appendForeign(
        { body: { publisher: serviceName, blocks: encodeBlocks(builder.blocks()) } },
        call,
      );
      if (duplicate) throw fail(DATA_EVENT_DUPLICATE, `an event with id '${event.id}' was added before`);
      return { id: event.id };
    },
    async eventById({ id }) {
      const place = query.find(id);
      if (!place) throw fail(DATA_EVENT_UNKNOWN, `no event or reading has the id '${id}'`);
      return { event: query.eventAt(place) };
    },
    allEvents: (p) => events({}, p),
    eventsByDevice: ({ name, ...p }) => events({ device: name }, p),
    eventsByTime: ({ start, end, ...p }) => events({ start, end }, p),
    eventCount: async () => ({ Count: query.count({}, "rows") }),
    eventCountByDevice: async ({ name }) => ({ Count: query.count({ device: name }, "rows") }),
    async deleteEvent({ id }) {
      if (!remover.one(id)) throw fail(DATA_EVENT_UNKNOWN, `no event has the id '${id}'`);
      return {};
    },
    async deleteEventsByDevice({ name }) {
      later(`removing the events of '${name}'`, remover.device(name));
      return {};
    },
    async deleteEventsByAge({ age }) {
      later(`removing events by age`, remover.before(clock.wallNs() - age));
      return {};
    },

    allReadings: (p) => readings({}, p),
    readingsByDevice: ({ name, ...p }) => readings({ device: name }, p),
    readingsByResource: ({ resourceName, ...p }) => readings({ resource: resourceName }, p),
    readingsByTime: ({ start, end, ...p }) => readings({ start, end }, p),
    readingsByResourceAndTime: ({ resourceName, start, end, ...p }) =>
      readings({ resource: resourceName, start, end }, p),
    readingsByDeviceAndResource: ({ name, resourceName, ...p }) =>
      readings({ device: name, resource: resourceName }, p),
    readingsByDeviceResourceAndTime: ({ name, resourceName, start, end, ...p }) =>
      readings({ device: name, resource: resourceName, start, end }, p),
    readingCount: async () => ({ Count: query.count({}, "readings") }),
    readingCountByDevice: async ({ name }) => ({ Count: query.count({ device: name }, "readings") }),
  };
}
