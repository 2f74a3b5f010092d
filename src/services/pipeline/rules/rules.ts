/** The local rules of a node: each looks at every reading as it comes onto the bus, whatever the batches and the cloud do. */
import { makeCall, newRequestId } from "../../../kernel/call.ts";
import { asFailure, fail } from "../../../kernel/error.ts";
import { headOfBlocks } from "../../../kernel/events/codec.ts";
import type { Block, Series } from "../../../kernel/events/model.ts";
import { forever } from "../../../kernel/forever.ts";
import type { BusRecord } from "../../bus/api.ts";
import { PIPELINE_RULE_INVALID, PIPELINE_UNKNOWN, type RuleStatus } from "../pipelines.api.ts";
import type { Catalogue } from "../pipelines/catalogue.ts";
import { eventOf } from "../pipelines/filters.ts";
import { FOLLOWER } from "../pipelines/following.ts";
import type { Parts } from "../pipelines/parts.ts";
import type { Actions, Cause } from "./actions.ts";
import type { RuleDefinition } from "./definition.ts";
import { Watch } from "./watch.ts";

const CALL_TIMEOUT_MS = 5_000;

export interface RulesOptions {
  readonly parts: Pick<Parts, "bus" | "clock" | "decoded" | "log">;
  readonly catalogue: Catalogue<RuleDefinition>;
  readonly actions: Actions;
  readonly signal: AbortSignal;
}

/** One rule at work. */
interface Working {
  readonly definition: RuleDefinition;
  readonly watch: Watch<Cause>;
  readonly isWatched: (series: Series) => boolean;
  fired: number;
  failed: number;
  lastFiredMs: number | undefined;
  lastFault: string | undefined;
}

export class Rules {
  readonly #o: RulesOptions;
  readonly #working = new Map<string, Working>();
  /** Resolves when there is something to look at. */
  #wanted = Promise.withResolvers<void>();

  /** PIPELINE_LOGIC_INVALID, PIPELINE_RULE_INVALID: the config cannot be used. */
  constructor(options: RulesOptions) {
    this.#o = options;
    for (const [name, { value }] of options.catalogue.all) this.#begin(name, this.#make(name, value));
  }

  /**
   * Looks at all that comes from now on, until the signal aborts. What came while nobody looked is not acted on: by then it
   * is no news.
   */
  async run(): Promise<void> {
    const { actions, parts, signal } = this.#o;
    const { bus, clock, log } = parts;
    signal.addEventListener("abort", () => this.#wanted.resolve(), { once: true });
    await this.#wanted.promise;
    await forever({ what: "the rules", clock, log, signal }, async () => {
      const asking = makeCall({ caller: FOLLOWER, timeoutMs: CALL_TIMEOUT_MS, signal });
      const { last: after } = await bus.backlog({}, asking).finally(() => asking.end(false));
      const call = makeCall({ caller: FOLLOWER, timeoutMs: Number.POSITIVE_INFINITY, signal });
      try {
        for await (const { records } of bus.follow({ follower: FOLLOWER, after }, call))
          for (const record of records) this.#look(record);
      } finally {
        call.end(false);
      }
    });
    for (const { watch } of this.#working.values()) watch.close();
    await actions.idle();
  }

  /** Adds a rule or changes it. Errors as those of a pipeline; PIPELINE_RULE_INVALID where it does nothing. */
  set(name: string, given: unknown): void {
    const definition = this.#o.catalogue.read(name, given);
    const made = this.#make(name, definition);
    this.#o.catalogue.set(name, definition);
    this.#working.get(name)?.watch.close();
    this.#begin(name, made);
  }

  /** PIPELINE_UNKNOWN. */
  remove(name: string): void {
    if (!this.#o.catalogue.remove(name)) throw fail(PIPELINE_UNKNOWN, `there is no rule '${name.slice(0, 100)}'`);
    this.#working.get(name)?.watch.close();
    this.#working.delete(name);
  }

  status(): RuleStatus[] {
    return [...this.#o.catalogue.all].map(([name, { value, origin }]) => {
      const { watch, fired, failed, lastFault, lastFiredMs } = this.#working.get(name)!;
      return {
        name,
        origin,
        definition: value,
        active: watch.active,
        fired,
        failed,
        ...(lastFiredMs === undefined ? {} : { lastFiredMs }),
        ...(lastFault === undefined ? {} : { lastFault }),
      };
    });
  }

  #make(name: string, definition: RuleDefinition): Working {
    if (!definition.command && !definition.notification)
      throw fail(PIPELINE_RULE_INVALID, `rule '${name}' does nothing: give it a command or a notification`);
    const { clock } = this.#o.parts;
    const act = (cause: Cause) => void this.#act(name, cause);
    const [devices, profiles] = [new Set(definition.devices), new Set(definition.profiles)];
    const isWatched = ({ deviceName, profileName, resources }: Series) =>
      (devices.size === 0 || devices.has(deviceName)) &&
      (profiles.size === 0 || profiles.has(profileName)) &&
      resources.some((resource) => resource.name === definition.resource);
    const watch = new Watch({ definition, monotonicMs: () => clock.monotonicMs(), act });
    return { definition, watch, isWatched, fired: 0, failed: 0, lastFiredMs: undefined, lastFault: undefined };
  }

  #begin(name: string, working: Working): void {
    this.#working.set(name, working);
    this.#wanted.resolve();
  }

  async #act(name: string, cause: Cause): Promise<void> {
    const { actions, parts } = this.#o;
    const rule = this.#working.get(name);
    if (!rule) return;
    rule.fired++;
    rule.lastFiredMs = parts.clock.wallMs();
    try {
      await actions.run(rule.definition, cause);
    } catch (error) {
      const { code, message } = asFailure(error);
      rule.failed++;
      rule.lastFault = message;
      parts.log.warn({ rule: name, requestId: cause.requestId, code }, `a rule could not do what it says: ${message}`);
    }
  }

  #look({ kind, payload, position }: BusRecord): void {
    if (kind !== "events") return;
    const rules = [...this.#working];
    try {
      // Heads cost next to nothing; most records concern no rule.
      const heads = headOfBlocks(payload);
      const concerned = rules.filter(([, { isWatched }]) => heads.some(({ series }) => isWatched(series)));
      if (concerned.length === 0) return;
      for (const block of this.#o.parts.decoded.of(position, payload))
        for (const [name, rule] of concerned) if (rule.isWatched(block.series)) lookAt(block, name, rule);
    } catch (error) {
      this.#o.parts.log.error({ position, err: error }, "a record of the bus could not be looked at by the rules");
    }
  }
}

function lookAt(block: Block, name: string, { definition, watch }: Working): void {
  const { publisher, series, sequences, columns, extras } = block;
  const { deviceName, resources } = series;
  const resourceName = definition.resource;
  const column = columns[resources.findIndex((resource) => resource.name === resourceName)];
  for (let row = 0; row < column.length; row++) {
    const value = column[row];
    if (value === undefined) continue;
    const at = row;
    const cause = (): Cause => ({
      rule: name,
      deviceName,
      resourceName,
      value,
      requestId: extras.get(at)?.requestId ?? newRequestId(),
      range: {
        publisher: publisher.name,
        epoch: publisher.epoch,
        from: sequences[at],
        to: sequences[at],
      },
    });
    watch.see(deviceName, value, () => eventOf(block, at), cause);
  }
}
