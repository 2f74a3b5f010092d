/** How long what is kept, and how much of it there is. */
import { type Static, Type } from "typebox";
import { get } from "../../kernel/contract.ts";
import { Name } from "../../kernel/edgex.ts";
import { DATA_RANGE } from "./codes.ts";
import { Page } from "./page.api.ts";

const Count = Type.Integer({ minimum: 0 });

/** What is kept of a source of a device. */
export const KeptSource = Type.Object({
  deviceName: Type.String(),
  sourceName: Type.String(),
  /** How long its resources are kept, and who says so: the rule of the config, the device's AutoEvent, the config's default. */
  keeps: Type.Array(
    Type.Object({
      resources: Type.Array(Type.String()),
      seconds: Count,
      by: Type.Union([Type.Literal("rule"), Type.Literal("device"), Type.Literal("default")]),
    }),
  ),
  /** The AutoEvent's: so many of the newest stay however old; above so many the oldest go. */
  eventsMin: Type.Optional(Count),
  eventsMax: Type.Optional(Count),
  events: Count,
  readings: Count,
  /** Of their chunks. */
  bytes: Count,
  /** How long ago the first of them was kept. */
  oldestSeconds: Count,
});
export type KeptSource = Static<typeof KeptSource>;

export const retentionOperations = {
  retention: get("/api/v3/retention", {
    summary: "Tells how long the events of each source are kept, and how many bytes they take, the largest first.",
    input: { device: Type.Optional(Name), offset: Page.offset, limit: Page.limit },
    output: Type.Object({
      sizeBytes: Count,
      sizeBytesMax: Count,
      totalCount: Count,
      sources: Type.Array(KeptSource),
    }),
    errors: [DATA_RANGE],
    public: { scope: "reading:read", timeoutMs: 15_000 },
  }),
};
