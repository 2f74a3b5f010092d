/** The metrics of every instance, as they were told last. */
import { type Static, Type } from "typebox";
import { get, post } from "../../kernel/contract.ts";
import { FAMILIES_MAX, SERIES_MAX } from "../../kernel/metrics/metrics.ts";

const Labels = Type.Record(Type.String({ maxLength: 120 }), Type.String({ maxLength: 1_024 }), { maxProperties: 16 });
const Histogram = Type.Object({
  counts: Type.Array(Type.Integer({ minimum: 0 }), { maxItems: 256 }),
  sumS: Type.Number(),
  exemplars: Type.Array(
    Type.Object({
      bucket: Type.Integer({ minimum: 0 }),
      exemplar: Type.Object({
        requestId: Type.String({ maxLength: 36 }),
        valueS: Type.Number(),
        atMs: Type.Number(),
      }),
    }),
    { maxItems: 256 },
  ),
});
export const Family = Type.Object({
  name: Type.String({ maxLength: 120 }),
  help: Type.String({ maxLength: 1_024 }),
  type: Type.Union([Type.Literal("counter"), Type.Literal("gauge"), Type.Literal("histogram"), Type.Literal("info")]),
  samples: Type.Array(
    Type.Object({ labels: Labels, value: Type.Optional(Type.Number()), histogram: Type.Optional(Histogram) }),
    { maxItems: SERIES_MAX + 1 },
  ),
});

export const Told = Type.Object({
  service: Type.String(),
  instance: Type.String(),
  /** So long ago it was told. */
  ageS: Type.Number(),
  families: Type.Array(Family),
});
export type Told = Static<typeof Told>;

export const metricsOperations = {
  report: post("/metrics", {
    quiet: true,
    summary: "Takes the metrics of an instance of the calling service, instead of those that it told before.",
    input: {
      body: Type.Object({
        instance: Type.String({ minLength: 1, maxLength: 200 }),
        /** The last word of an instance that ends: it is forgotten. */
        ends: Type.Optional(Type.Boolean()),
        families: Type.Array(Family, { maxItems: FAMILIES_MAX }),
      }),
    },
    output: Type.Object({}),
    callers: ["*"],
    bodyBytesMax: 4 * 1024 * 1024,
  }),
  metrics: get("/metrics", {
    quiet: true,
    summary: "Tells the metrics of every instance.",
    input: {},
    output: Type.Object({ instances: Type.Array(Told) }),
    callers: ["gateway", "pipeline"],
  }),
};
