/** Readings, on the wire as EdgeX v3 has them. */
import { Type } from "typebox";
import { get } from "../../kernel/contract.ts";
import { Name, Reading } from "../../kernel/edgex.ts";
import { Nanos } from "../../kernel/nanos.ts";
import { DATA_RANGE, DATA_TIME_INVALID } from "./codes.ts";
import { Page } from "./page.api.ts";

const Readings = Type.Object({ totalCount: Type.Integer(), readings: Type.Array(Reading) });
const Count = Type.Object({ Count: Type.Integer() });
const read = { scope: "reading:read", timeoutMs: 15_000 };
const errors = [DATA_RANGE, DATA_TIME_INVALID];
const Times = { start: Nanos, end: Nanos };

export const readingOperations = {
  allReadings: get("/api/v3/reading/all", {
    summary: "Lists readings, newest first.",
    input: Page,
    output: Readings,
    errors,
    public: read,
  }),
  readingsByDevice: get("/api/v3/reading/device/name/:name", {
    summary: "Lists a device's readings, newest first.",
    input: { name: Name, ...Page },
    output: Readings,
    errors,
    public: read,
  }),
  readingsByResource: get("/api/v3/reading/resourceName/:resourceName", {
    summary: "Lists a resource's readings over all devices, newest first.",
    input: { resourceName: Name, ...Page },
    output: Readings,
    errors,
    public: read,
  }),
  readingsByTime: get("/api/v3/reading/start/:start/end/:end", {
    summary: "Lists readings between two times, both included, newest first.",
    input: { ...Times, ...Page },
    output: Readings,
    errors,
    public: read,
  }),
  readingsByResourceAndTime: get("/api/v3/reading/resourceName/:resourceName/start/:start/end/:end", {
    summary: "Lists a resource's readings between two times.",
    input: { resourceName: Name, ...Times, ...Page },
    output: Readings,
    errors,
    public: read,
  }),
  readingsByDeviceAndTime: get("/api/v3/reading/device/name/:name/start/:start/end/:end", {
    summary: "Lists a device's readings between two times.",
    input: { name: Name, ...Times, ...Page },
    output: Readings,
    errors,
    public: read,
  }),
  readingsByDeviceAndResource: get("/api/v3/reading/device/name/:name/resourceName/:resourceName", {
    summary: "Lists readings of one resource of a device, newest first.",
    input: { name: Name, resourceName: Name, ...Page },
    output: Readings,
    errors,
    public: read,
  }),
  readingsByDeviceResourceAndTime: get(
    "/api/v3/reading/device/name/:name/resourceName/:resourceName/start/:start/end/:end",
    {
      summary: "Lists readings of one resource of a device between two times.",
      input: { name: Name, resourceName: Name, ...Times, ...Page },
      output: Readings,
      errors,
      public: read,
    },
  ),
  readingCount: get("/api/v3/reading/count", {
    summary: "Counts all readings.",
    input: {},
    output: Count,
    public: read,
  }),
  readingCountByDevice: get("/api/v3/reading/count/device/name/:name", {
    summary: "Counts a device's readings.",
    input: { name: Name },
    output: Count,
    public: read,
  }),
};
