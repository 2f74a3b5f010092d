/** Events, on the wire as EdgeX v3 has them. */
import { Type } from "typebox";
import { del, get, post } from "../../kernel/contract.ts";
import { Event, Name } from "../../kernel/edgex.ts";
import { Nanos } from "../../kernel/nanos.ts";
import {
  DATA_EVENT_DUPLICATE,
  DATA_EVENT_MISMATCHED,
  DATA_EVENT_UNKNOWN,
  DATA_RANGE,
  DATA_TIME_INVALID,
} from "./codes.ts";
import { Page } from "./page.api.ts";

const Events = Type.Object({ totalCount: Type.Integer(), events: Type.Array(Event) });
const Count = Type.Object({ Count: Type.Integer() });
const read = { scope: "event:read", timeoutMs: 15_000 };
const errors = [DATA_RANGE, DATA_TIME_INVALID];

export const eventOperations = {
  addEvent: post("/api/v3/event/:serviceName/:profileName/:deviceName/:sourceName", {
    summary: "Adds an event; it goes over the bus like every other.",
    input: {
      serviceName: Name,
      profileName: Name,
      deviceName: Name,
      sourceName: Name,
      body: Type.Object({
        apiVersion: Type.Optional(Type.String()),
        requestId: Type.Optional(Type.String()),
        event: Event,
      }),
    },
    output: Type.Object({ id: Type.String() }),
    status: 201,
    errors: [DATA_EVENT_MISMATCHED, DATA_EVENT_DUPLICATE],
    callers: ["device-*"],
    public: { scope: "event:write", timeoutMs: 15_000 },
    bodyBytesMax: 1_048_576,
  }),
  eventById: get("/api/v3/event/id/:id", {
    summary: "Tells an event by its id, or by that of one of its readings.",
    input: { id: Type.String({ maxLength: 100 }) },
    output: Type.Object({ event: Event }),
    errors: [DATA_EVENT_UNKNOWN],
    public: read,
  }),
  allEvents: get("/api/v3/event/all", {
    summary: "Lists events, newest first.",
    input: Page,
    output: Events,
    errors,
    public: read,
  }),
  eventsByDevice: get("/api/v3/event/device/name/:name", {
    summary: "Lists a device's events, newest first.",
    input: { name: Name, ...Page },
    output: Events,
    errors,
    public: read,
  }),
  eventsByTime: get("/api/v3/event/start/:start/end/:end", {
    summary: "Lists events between two times, both included, newest first.",
    input: { start: Nanos, end: Nanos, ...Page },
    output: Events,
    errors,
    public: read,
  }),
  eventCount: get("/api/v3/event/count", { summary: "Counts all events.", input: {}, output: Count, public: read }),
  eventCountByDevice: get("/api/v3/event/count/device/name/:name", {
    summary: "Counts a device's events.",
    input: { name: Name },
    output: Count,
    public: read,
  }),
  deleteEvent: del("/api/v3/event/id/:id", {
    summary: "Removes an event and its readings.",
    input: { id: Type.String({ maxLength: 100 }) },
    output: Type.Object({}),
    errors: [DATA_EVENT_UNKNOWN],
    public: { scope: "event:delete" },
  }),
  deleteEventsByDevice: del("/api/v3/event/device/name/:name", {
    summary: "Removes a device's events; answers at once, as EdgeX does.",
    input: { name: Name },
    output: Type.Object({}),
    status: 202,
    public: { scope: "event:delete" },
  }),
  forgetDevice: post("/api/v3/event/device/name/:name/forget", {
    summary: "Destroys the key of a device's events: they are unreadable when this answers, and removed afterwards.",
    input: { name: Name },
    output: Type.Object({}),
    callers: ["node"],
  }),
  deleteEventsByAge: del("/api/v3/event/age/:age", {
    summary: "Removes events older than so many nanoseconds; answers at once.",
    input: { age: Nanos },
    output: Type.Object({}),
    errors: [DATA_TIME_INVALID],
    status: 202,
    public: { scope: "event:delete" },
  }),
};
