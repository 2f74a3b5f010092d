/** What works on the events of the node: its pipelines and its rules, with what they share. */
import type { Static } from "typebox";
import { makeCall } from "../../kernel/call.ts";
import type { Context } from "../../kernel/service.ts";
import type { Bus } from "../bus/api.ts";
import type { CoreCommand } from "../core-command/api.ts";
import type { CoreData } from "../core-data/api.ts";
import { Backfills } from "./backfill/backfills.ts";
import type { BackfillBook } from "./backfill/book.ts";
import type { Outbox } from "./outbox/outbox.ts";
import { Catalogue } from "./pipelines/catalogue.ts";
import { Decoded } from "./pipelines/decoded.ts";
import { PIPELINES_MAX, PipelineDefinition } from "./pipelines/definition.ts";
import { Departures } from "./pipelines/departures.ts";
import type { DestinationForm } from "./pipelines/exports.ts";
import type { Parts } from "./pipelines/parts.ts";
import { Pipelines } from "./pipelines/pipelines.ts";
import { Actions } from "./rules/actions.ts";
import { RuleDefinition, RULES_MAX } from "./rules/definition.ts";
import { Rules } from "./rules/rules.ts";
import type { PipelineStore } from "./store.ts";

/** How long the bus may take to tell where it ends, when somebody asks how far the pipelines are. */
const CALL_TIMEOUT_MS = 2_000;

export interface Works {
  readonly pipelines: Pipelines;
  readonly rules: Rules;
  readonly backfills: BackfillBook;
  /** Tells the end of the bus; undefined where that is not known. */
  last(): Promise<number | undefined>;
}

type WorksContext = Context<{
  readonly pipelines: Readonly<Record<string, Static<typeof PipelineDefinition>>>;
  readonly rules: Readonly<Record<string, Static<typeof RuleDefinition>>>;
  readonly destinations: Readonly<Record<string, DestinationForm>>;
  readonly backfill: "give" | "refuse";
}>;

interface WorksNeeds {
  readonly bus: Bus;
  readonly coreCommand: CoreCommand;
  readonly coreData: CoreData;
  readonly outbox: Outbox;
  readonly store: PipelineStore;
  readonly backfills: BackfillBook;
  /** The destination that is a cloud, by name. */
  readonly cloud: string | undefined;
}

/**
 * Makes the pipelines and rules that the config declares and people have set; `run` has them work until the service stops,
 * the pipelines once `isAsked` resolves. PIPELINE_DESTINATION_UNKNOWN, PIPELINE_LOGIC_INVALID, PIPELINE_WINDOW_INVALID,
 * PIPELINE_RULE_INVALID: the config cannot be used.
 */
export function openWorks(
  context: WorksContext,
  { bus, coreCommand, coreData, outbox, store, backfills, cloud }: WorksNeeds,
): Works & { run(isAsked: Promise<void>): Promise<void> } {
  const { clock, config, log, stopping: signal, tracer } = context;
  const tables = store.pipelines;
  const parts: Parts = {
    bus,
    outbox,
    tables,
    departures: new Departures(
      (name) => tables.counts(name),
      () => clock.wallMs(),
    ),
    decoded: new Decoded(),
    pseudonymKey: context.key("pseudonym"),
    clock,
    log,
    tracer,
  };
  const pipelines = new Pipelines({
    parts,
    signal,
    destinations: config.destinations,
    catalogue: new Catalogue({
      kind: "pipeline",
      schema: PipelineDefinition,
      sizeMax: PIPELINES_MAX,
      declared: config.pipelines,
      tables,
      log,
    }),
  });
  const rules = makeRules(context, parts, coreCommand);
  const filling = new Backfills({
    ...parts,
    book: backfills,
    outbox,
    signal,
    destination: cloud ?? "",
    coreData,
    pipelines: () => (cloud === undefined ? [] : pipelines.to(cloud)),
    isAllowed: config.backfill === "give",
  });
  return {
    pipelines,
    rules,
    backfills,
    last: () => endOf(context, parts),
    run: async (isAsked) =>
      void (await Promise.all([
        rules.run(),
        filling.run(),
        isAsked.then(() => (signal.aborted ? undefined : pipelines.run())),
      ])),
  };
}

function makeRules(context: WorksContext, parts: Parts, coreCommand: CoreCommand): Rules {
  const { config, stopping: signal } = context;
  const { clock, log, tables, tracer } = parts;
  return new Rules({
    parts,
    signal,
    actions: new Actions({ bus: parts.bus, coreCommand, clock, tracer }),
    catalogue: new Catalogue({
      kind: "rule",
      schema: RuleDefinition,
      sizeMax: RULES_MAX,
      declared: config.rules,
      tables,
      log,
    }),
  });
}

async function endOf(context: WorksContext, parts: Parts): Promise<number | undefined> {
  const call = makeCall({ caller: context.name, timeoutMs: CALL_TIMEOUT_MS, signal: context.stopping });
  const asked = parts.bus.backlog({}, call).finally(() => call.end(false));
  // How far behind the pipelines are is then not told.
  return asked.then(({ last }) => last).catch(() => undefined);
}
