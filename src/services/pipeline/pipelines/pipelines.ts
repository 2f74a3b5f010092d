/** The pipelines of a node: which there are, begun and ended while it runs, and how far all of them have the bus. */
import { setTimeout as sleep } from "node:timers/promises";
import { makeCall } from "../../../kernel/call.ts";
import { fail } from "../../../kernel/error.ts";
import { forever } from "../../../kernel/forever.ts";
import { type Leaving, PIPELINE_UNKNOWN, type PipelineStatus } from "../pipelines.api.ts";
import type { Catalogue } from "./catalogue.ts";
import { Chain } from "./chain.ts";
import type { PipelineDefinition } from "./definition.ts";
import { checkExports, type DestinationForm, destinationsOf } from "./exports.ts";
import { FOLLOWER } from "./following.ts";
import type { Parts } from "./parts.ts";
import { Run } from "./run.ts";

/** What was counted goes to the disk every so many times: a kill may cost so much of it. */
const COUNTS_EVERY = 10;
/** The bus is told so often how far the pipelines are; it only trims by it. */
const CONFIRM_EVERY_MS = 1_000;
const CALL_TIMEOUT_MS = 5_000;

export interface PipelinesOptions {
  readonly parts: Parts;
  readonly catalogue: Catalogue<PipelineDefinition>;
  /** The destinations there are, by name. */
  readonly destinations: Readonly<Record<string, DestinationForm>>;
  readonly signal: AbortSignal;
}

/** Positions of the bus. */
interface Places {
  readonly first: number;
  readonly last: number;
  /** What the bus was told to be kept. */
  readonly confirmed: number;
}

export class Pipelines {
  readonly #p: Parts;
  readonly #catalogue: Catalogue<PipelineDefinition>;
  readonly #destinations: Readonly<Record<string, DestinationForm>>;
  readonly #signal: AbortSignal;
  readonly #runs = new Map<string, Run>();
  /** Pipelines that are not there any more, and still hold something. */
  readonly #ending = new Map<string, { readonly run: Run; readonly done: Promise<void> }>();
  /** One change at a time. */
  #changing: Promise<void> = Promise.resolve();

  /** PIPELINE_DESTINATION_UNKNOWN, PIPELINE_EXPORT_INVALID, PIPELINE_LOGIC_INVALID, PIPELINE_WINDOW_INVALID: the config cannot be used. */
  constructor({ parts, catalogue, destinations, signal }: PipelinesOptions) {
    this.#p = parts;
    this.#catalogue = catalogue;
    this.#destinations = destinations;
    this.#signal = signal;
    for (const [name, { value }] of catalogue.all) this.#check(name, value);
  }

  /** Runs all pipelines until the signal aborts; ends when they have. */
  async run(): Promise<void> {
    const { clock, log, tables } = this.#p;
    const known = tables.names;
    const placing = new AbortController();
    const signal = AbortSignal.any([this.#signal, placing.signal]);
    this.#changing = forever({ what: "placing the pipelines", clock, log, signal }, async () => {
      const places = await this.#places();
      for (const [name, { value }] of this.#catalogue.all) this.#place(name, value, places, known.length === 0);
      placing.abort();
    });
    await this.#changing;
    if (this.#signal.aborted) return;
    for (const name of known) if (!this.#catalogue.all.has(name)) this.#end(name);
    for (const [name, { value }] of this.#catalogue.all) this.#begin(name, value);
    const what = "telling the bus how far the pipelines are";
    await forever({ what, clock, log, signal: this.#signal }, () => this.#confirming());
    await this.#changing;
    await Promise.all([...this.#runs.values()].map((run) => run.stop()));
    await Promise.all([...this.#ending.values()].map(({ done }) => done));
    this.#saveCounts();
  }

  #saveCounts(): void {
    const { departures, tables } = this.#p;
    const names = departures.takeChanged();
    if (names.length > 0)
      tables.transaction(() => names.forEach((name) => tables.saveCounts(name, departures.of(name))));
  }

  /**
   * Adds a pipeline or changes it. PIPELINE_NAME_INVALID, PIPELINE_TOO_MANY, PIPELINE_DESTINATION_UNKNOWN,
   * PIPELINE_EXPORT_INVALID, PIPELINE_LOGIC_INVALID, PIPELINE_WINDOW_INVALID, CONFIG_KEY_UNKNOWN, CONFIG_VALUE_INVALID.
   */
  async set(name: string, given: unknown): Promise<void> {
    const definition = this.#catalogue.read(name, given);
    this.#check(name, definition);
    await this.#change(async () => {
      // Its end, where there was one before, must not take the new one's place on the disk away.
      await this.#ending.get(name)?.done;
      const places = await this.#places();
      await this.#runs.get(name)?.stop();
      this.#place(name, definition, places, false);
      this.#catalogue.set(name, definition);
      this.#begin(name, definition);
    });
  }

  /** Removes a pipeline; what it holds goes to the outbox. PIPELINE_UNKNOWN. */
  async remove(name: string): Promise<void> {
    await this.#change(async () => {
      if (!this.#catalogue.remove(name)) throw fail(PIPELINE_UNKNOWN, `there is no pipeline '${name.slice(0, 100)}'`);
      await this.#runs.get(name)?.stop();
      this.#runs.delete(name);
      this.#end(name);
    });
  }

  /** Tells how each pipeline is; `last` is the end of the bus, where it is known. */
  status(last?: number): PipelineStatus[] {
    return [...this.#catalogue.all].map(([name, { value, origin }]) => {
      const { position, functions, ...fault } = this.#runs.get(name)?.state ?? { position: 0, functions: [] };
      const counted = this.#p.departures.of(name);
      return {
        name,
        origin,
        definition: value,
        position,
        ...(last === undefined ? {} : { behind: Math.max(0, last - position) }),
        ...fault,
        functions,
        readings: counted.reduce((sum, { readings }) => sum + readings, 0),
        bytes: counted.reduce((sum, { bytes }) => sum + bytes, 0),
      };
    });
  }

  /** Lists what leaves, by pipeline and resource. */
  leaves(): Leaving[] {
    return [...this.#catalogue.all].flatMap(([pipeline, { value }]) =>
      this.#p.departures.of(pipeline).map((counted) => ({
        pipeline,
        destinations: destinationsOf(value),
        ...counted,
        functions: value.functions.map((spec) => spec.function),
      })),
    );
  }

  /** Those that go to a destination. */
  to(destination: string): (readonly [name: string, definition: PipelineDefinition])[] {
    return [...this.#catalogue.all].flatMap(([name, { value }]) =>
      destinationsOf(value).includes(destination) ? [[name, value] as const] : [],
    );
  }

  /** Position of the bus up to which all that leaves is in the outbox. */
  get position(): number {
    return Math.min(Number.MAX_SAFE_INTEGER, ...[...this.#runs.values()].map(({ state }) => state.position));
  }

  #check(name: string, definition: PipelineDefinition): void {
    checkExports(name, definition, this.#destinations);
    // Made only to see that it can be.
    void new Chain(definition.functions, { pipeline: name, pseudonymKey: this.#p.pseudonymKey });
  }

  async #change(work: () => Promise<void>): Promise<void> {
    const changed = this.#changing.then(work);
    this.#changing = changed.catch(() => undefined);
    await changed;
  }

  async #places(): Promise<Places> {
    const call = makeCall({ caller: FOLLOWER, timeoutMs: CALL_TIMEOUT_MS, signal: this.#signal });
    const { first, last, followers } = await this.#p.bus.backlog({}, call).finally(() => call.end(false));
    return { first, last, confirmed: followers.find(({ name }) => name === FOLLOWER)?.position ?? 0 };
  }

  /** Gives a pipeline that is new here its place on the bus. */
  #place(name: string, definition: PipelineDefinition, { first, last, confirmed }: Places, isAllNew: boolean): void {
    const { log, outbox, tables } = this.#p;
    if (tables.load(name)) return;
    const queued = outbox.followed(name);
    let position = definition.from === "now" ? last : Math.max(0, first - 1);
    if (isAllNew && (queued || confirmed > 0)) {
      // The database was lost: the outbox knows how far each pipeline was, and the bus how far all of them.
      position = Math.max(confirmed, queued?.through ?? 0);
      log.warn({ pipeline: name, position }, "how far a pipeline was is known from the outbox and the bus alone");
    }
    const emitted = queued?.emitted ?? 0;
    const json = JSON.stringify(definition);
    tables.save(name, { position, emitted, definition: json, state: undefined, pending: [] }, []);
  }

  #begin(name: string, definition: PipelineDefinition): void {
    const run = new Run(this.#p, name, definition);
    this.#runs.set(name, run);
    this.#p.decoded.followers = this.#runs.size + 1;
    run.start();
  }

  #end(name: string): void {
    const { departures, tables } = this.#p;
    const kept = tables.load(name);
    if (!kept) return;
    const run = new Run(this.#p, name, JSON.parse(kept.definition) as PipelineDefinition);
    const end = async () => {
      await run.end(this.#signal);
      this.#ending.delete(name);
      departures.forget(name);
    };
    this.#ending.set(name, { run, done: end() });
  }

  /** Tells the bus now and then up to where nobody needs it: also when nothing comes, since it may be full and wait for that. */
  async #confirming(): Promise<void> {
    let confirmed = -1;
    for (let round = 1; ; round++) {
      await sleep(CONFIRM_EVERY_MS, undefined, { signal: this.#signal, ref: false });
      if (round % COUNTS_EVERY === 0) this.#saveCounts();
      const runs = [...this.#runs.values(), ...[...this.#ending.values()].map(({ run }) => run)];
      for (const run of runs) run.settle();
      const position = runs.length > 0 ? Math.min(...runs.map(({ safe }) => safe)) : (await this.#places()).last;
      if (position === confirmed) continue;
      const call = makeCall({ caller: FOLLOWER, timeoutMs: CALL_TIMEOUT_MS, signal: this.#signal });
      const body = { follower: FOLLOWER, position };
      await this.#p.bus.confirm({ body }, call).finally(() => call.end(false));
      confirmed = position;
    }
  }
}
