/** Wires the pipeline. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Static, Type } from "typebox";
import { type Context, defineService, field } from "../../kernel/service.ts";
import { bus } from "../bus/api.ts";
import { coreCommand } from "../core-command/api.ts";
import { coreData } from "../core-data/api.ts";
import { trace as traceContract } from "../trace/api.ts";
import { pipeline } from "./api.ts";
import type { LineBook } from "./telemetry/lines.ts";
import { type Backfill, BackfillBook } from "./backfill/book.ts";
import { Destinations } from "./destinations.ts";
import { Destinations as DestinationsConfig } from "./destinations/config.ts";
import { edgeName, enrollWith } from "./enroll.ts";
import { Gaps } from "./outbox/gaps.ts";
import { watchDestinations } from "./metrics.ts";
import { Outbox } from "./outbox/outbox.ts";
import { PIPELINES_MAX, PipelineDefinition, PlainName } from "./pipelines/definition.ts";
import { RuleDefinition, RULES_MAX } from "./rules/definition.ts";
import { makePipeline } from "./service.ts";
import { PipelineStore } from "./store.ts";
import { openWorks } from "./works.ts";

/** The bus is followed so long after the start at the latest, whether the cloud has answered or not. */
const ASKED_MS_MAX = 2_000;
/** Less would not hold the batches of one large record of the bus. */
const OUTBOX_BYTES_MIN = 4_194_304;
/** Ten years. */
const AGE_MS_MAX = 315_360_000_000;
const SWEEP_EVERY_MS = 30_000;

const Config = Type.Object(
  {
    pipelines: field(Type.Record(PlainName, PipelineDefinition, { maxProperties: PIPELINES_MAX }), {
      description: "What leaves the node, where to, and how; by name.",
      default: { all: {} },
      example: { pressures: { functions: [{ function: "FilterByResourceName", resourceNames: ["Pressure"] }] } },
    }),
    rules: field(Type.Record(PlainName, RuleDefinition, { maxProperties: RULES_MAX }), {
      description: "What is done here at once when a reading says so, whether the cloud is there or not; by name.",
      default: {},
      example: {
        hot: {
          resource: "Temperature",
          when: { above: 80 },
          command: { deviceName: "fan-1", commandName: "Speed", settings: { Speed: 100 } },
        },
      },
    }),
    destinations: field(DestinationsConfig, {
      description: "Where batches go, by name; 'cloud' is the one that the node is enrolled at.",
      default: { cloud: { kind: "cloud" } },
      example: { cloud: { kind: "cloud" }, plant: { kind: "mqtt", url: "mqtts://broker.example:8883" } },
    }),
    outboxBytesMax: field(Type.Integer({ minimum: OUTBOX_BYTES_MIN }), {
      description: "Bytes of batches that wait for their destinations.",
      default: 1_073_741_824,
      example: 67_108_864,
    }),
    outboxWhenFull: field(Type.Union([Type.Literal("refuse"), Type.Literal("drop")]), {
      description:
        "At outboxBytesMax: 'refuse', the pipelines stop, the bus keeps on, and nothing is dropped; or 'drop' the oldest batches of the lowest class, which the gap ledger tells.",
      default: "refuse",
      example: "drop",
    }),
    outboxAgeMsMax: field(Type.Integer({ minimum: 0, maximum: AGE_MS_MAX }), {
      description:
        "Milliseconds after which a batch that still waits is dropped, and told in the gap ledger; 0: never.",
      default: 0,
      example: 2_592_000_000,
    }),
    backfill: field(Type.Union([Type.Literal("give"), Type.Literal("refuse")]), {
      description:
        "When the cloud asks for a range in full: 'give' what core-data has of what the pipelines let leave, without their reduction; or 'refuse'.",
      default: "give",
      example: "refuse",
    }),
  },
  { additionalProperties: false },
);

export const main = defineService({
  contract: pipeline,
  config: Config,
  needs: ["bus", "core-command", "core-data", "trace"],
  stateful: true,
  frugal: true,
  async start(context) {
    const { clock, config, directory, log, node, secrets, stopping: signal, tracer } = context;
    const store = new PipelineStore({ path: join(directory, "pipeline.db"), key: context.keys("database").all(), log });
    const gaps = new Gaps(store.gaps, clock, log);
    const outbox = await openOutbox(context, store, gaps);
    const backfills = new BackfillBook({
      saved: store.get("backfills") as readonly Backfill[] | undefined,
      save: (all) => store.set("backfills", all),
      clock,
    });
    const parts = { outbox, store, gaps, backfills, clock, log, tracer, signal };
    const destinations = new Destinations({ ...parts, node: edgeName(node), config: config.destinations, secrets });
    watchDestinations(context.metrics, { outbox, store, destinations });
    const sending = destinations.run();
    const telling = tellAll(context, outbox);
    const sweeping = sweep(outbox, store, gaps, log, signal);
    // Were the outbox damaged, the cloud knows best from where on the bus is to be followed: it is asked first.
    const isAsked = Promise.race([
      destinations.cloud.asked,
      sleep(ASKED_MS_MAX, undefined, { signal, ref: false }).catch(() => undefined),
    ]);
    const works = openWorks(context, {
      ...parts,
      bus: context.connect(bus),
      coreCommand: context.connect(coreCommand),
      coreData: context.connect(coreData),
      cloud: destinations.cloud.destination,
    });
    const working = works.run(isAsked);
    return {
      service: makePipeline({
        ...parts,
        edge: edgeName(node),
        cloud: destinations.cloud,
        destinations: () => destinations.status(),
        works,
        enroll: enrollWith,
      }),
      health: () => healthOf(outbox, store),
      async stop() {
        await Promise.all([working, sending, sweeping, telling]);
        outbox.save();
        await outbox.close();
        store.close();
      },
    };
  },
});

type PipelineContext = Context<Static<typeof Config>>;

async function openOutbox(context: PipelineContext, store: PipelineStore, gaps: Gaps): Promise<Outbox> {
  const { clock, config, directory, log } = context;
  const keys = context.keys("outbox");
  try {
    const outbox = await Outbox.open({
      directory,
      key: keys.all(),
      sizeBytesMax: config.outboxBytesMax,
      whenFull: config.outboxWhenFull,
      ageMsMax: config.outboxAgeMsMax === 0 ? Number.POSITIVE_INFINITY : config.outboxAgeMsMax,
      destinations: Object.keys(config.destinations),
      clock,
      log,
      gaps,
      saved: store.outbox,
      save: (state) => (store.outbox = state),
    });
    keys.follow((next) => outbox.rekey(next));
    return outbox;
  } catch (error) {
    store.close();
    throw error;
  }
}

/** Has each destination for telemetry told it; what that needs is loaded where there is one. */
async function tellAll(context: PipelineContext, outbox: Outbox): Promise<void> {
  const { clock, config, log, metrics, node, stopping: signal, version } = context;
  const shared = { node, version, outbox, metrics, clock, log, signal };
  const trace = context.connect(traceContract);
  let book: LineBook | undefined;
  await Promise.all(
    Object.entries(config.destinations).map(async ([destination, settings]) => {
      if (settings.kind !== "otlp") return;
      const [{ Telemetry }, lines] = await Promise.all([
        import("./telemetry/telemetry.ts"),
        import("./telemetry/lines.ts"),
      ]);
      book ??= new lines.LineBook(context.supervisor);
      await new Telemetry({ ...shared, destination, config: settings, trace, book }).run();
    }),
  );
}

/** Lets go now and then of what has waited too long, and of dead letters beyond their limit. */
async function sweep(
  outbox: Outbox,
  store: PipelineStore,
  gaps: Gaps,
  log: PipelineContext["log"],
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await sleep(SWEEP_EVERY_MS, undefined, { signal, ref: false }).catch(() => undefined);
    if (signal.aborted) return;
    try {
      await outbox.sweep();
      store.deadLetters.limit(gaps);
    } catch (error) {
      log.warn({ err: error }, "the outbox could not be swept; it is tried again");
    }
  }
}

function healthOf({ queues }: Outbox, { replaced }: PipelineStore): { state: "passing" | "warning"; reason?: string } {
  if (replaced)
    return { state: "warning", reason: `its damaged database was moved to ${replaced.movedTo}: enroll the node again` };
  if (Object.values(queues).some(({ isDamaged }) => isDamaged))
    return { state: "warning", reason: "batches were lost before their destinations had them; see 'holdfast backlog'" };
  return { state: "passing" };
}
