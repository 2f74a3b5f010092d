/** What the tests of pipelines share: a bus, an outbox that nobody drains, and the pipelines between them. */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Clock, systemClock } from "../../src/kernel/clock.ts";
import { checkConfig, type ConfigSchema } from "../../src/kernel/config.ts";
import type { Block, Value } from "../../src/kernel/events/model.ts";
import { decodeBlocks } from "../../src/kernel/events/codec.ts";
import { makeLog } from "../../src/kernel/log.ts";
import { Tracer } from "../../src/kernel/trace.ts";
import { makeLocalHouse } from "../../src/node/local.ts";
import { type Bus, bus } from "../../src/services/bus/api.ts";
import { main as busMain } from "../../src/services/bus/main.ts";
import { Gaps } from "../../src/services/pipeline/outbox/gaps.ts";
import { Outbox } from "../../src/services/pipeline/outbox/outbox.ts";
import type { BatchNote } from "../../src/services/pipeline/outbox/record.ts";
import { Catalogue } from "../../src/services/pipeline/pipelines/catalogue.ts";
import { Decoded } from "../../src/services/pipeline/pipelines/decoded.ts";
import { type FunctionSpec, PipelineDefinition } from "../../src/services/pipeline/pipelines/definition.ts";
import { Departures } from "../../src/services/pipeline/pipelines/departures.ts";
import { Pipelines } from "../../src/services/pipeline/pipelines/pipelines.ts";
import { PipelineStore } from "../../src/services/pipeline/store.ts";
import { type After, call, events, type EventsOptions, type Lines } from "./uplink.ts";

const KEY = Buffer.alloc(32, 3);
const CONFIGS = { cloud: { kind: "cloud" }, plant: { kind: "mqtt", format: "json", compression: "gzip" } };
const DESTINATIONS = Object.keys(CONFIGS);

export type Definition = Partial<PipelineDefinition>;
export type Definitions = Readonly<Record<string, Definition>>;

/** One pipeline that does these functions, and makes its batches by count and time. */
export const all = (functions: readonly FunctionSpec[] = [], batch = { events: 1_000, ms: 20 }): Definitions => ({
  all: {
    functions: [
      ...functions,
      { function: "BatchByTimeAndCount", batchThreshold: batch.events, timeIntervalMs: batch.ms },
    ],
  },
});

export interface Batch extends BatchNote {
  readonly content: readonly Block[];
}

export class PipelineRig {
  readonly lines: Lines;
  readonly bus: Bus;
  store!: PipelineStore;
  outbox!: Outbox;
  pipelines!: Pipelines;
  readonly directory: string;
  readonly #house: ReturnType<typeof makeLocalHouse>;
  readonly #clock: Clock;
  #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();

  private constructor(directory: string, clock: Clock) {
    const lines: Record<string, unknown>[] = [];
    const to = { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) };
    const log = makeLog("pipeline", { to });
    this.lines = lines;
    this.directory = directory;
    this.#clock = clock;
    this.#house = makeLocalHouse({ node: "edge1", directory, version: "test", log, clock, dataKey: async () => KEY });
    this.bus = this.#house.connect(bus, "pipeline");
    this.log = log;
  }

  readonly log: ReturnType<typeof makeLog>;

  static async open(t: After, directory: string, clock: Clock = systemClock): Promise<PipelineRig> {
    const rig = new PipelineRig(directory, clock);
    await rig.#house.start(busMain, { keepBytes: 0 });
    await rig.openOutbox();
    t.after(() => rig.close());
    return rig;
  }

  async openOutbox(): Promise<void> {
    const directory = join(this.directory, "pipeline");
    mkdirSync(directory, { recursive: true });
    const store = new PipelineStore({ path: join(directory, "pipeline.db"), key: KEY, log: this.log });
    this.store = store;
    this.outbox = await Outbox.open({
      directory,
      key: KEY,
      sizeBytesMax: 2 ** 28,
      whenFull: "refuse",
      ageMsMax: Number.POSITIVE_INFINITY,
      destinations: DESTINATIONS,
      clock: this.#clock,
      log: this.log,
      gaps: new Gaps(store.gaps, this.#clock, this.log),
      saved: store.outbox,
      save: (state) => (store.outbox = state),
    });
  }

  /** Begins to work with these pipelines in the config. */
  start(declared: Definitions = all()): void {
    const { bus: of, log, outbox, store } = this;
    const tables = store.pipelines;
    const clock = this.#clock;
    this.#stopping = new AbortController();
    const { signal } = this.#stopping;
    const kind = { kind: "pipeline", schema: PipelineDefinition, sizeMax: 8, tables, log };
    const full = Object.fromEntries(
      Object.entries(declared).map(([name, given]) => [
        name,
        checkConfig(PipelineDefinition as ConfigSchema, given, name) as PipelineDefinition,
      ]),
    );
    this.pipelines = new Pipelines({
      parts: {
        bus: of,
        outbox,
        tables,
        clock,
        log,
        decoded: new Decoded(),
        pseudonymKey: KEY,
        departures: new Departures(
          (name) => tables.counts(name),
          () => clock.wallMs(),
        ),
        tracer: new Tracer("pipeline", clock),
      },
      catalogue: new Catalogue<PipelineDefinition>({ ...kind, declared: full }),
      destinations: CONFIGS,
      signal,
    });
    this.#running = this.pipelines.run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  /** Ends the pipelines and opens all anew, as after a restart. */
  async reopen(): Promise<void> {
    await this.stop();
    await this.outbox.close();
    this.store.close();
    await this.openOutbox();
  }

  async close(): Promise<void> {
    await this.stop();
    await this.outbox.close();
    this.store.close();
    await this.#house.stop();
  }

  async append(name: string, from: number, to: number, options: EventsOptions = {}): Promise<void> {
    await this.appendBytes(name, events(name, from, to, options));
  }

  async appendBytes(name: string, blocks: Uint8Array): Promise<void> {
    await this.#house.connect(bus, name).append({ body: { blocks } }, call());
  }

  /** All batches of a pipeline, by class and in order. */
  async batches(pipeline = "all"): Promise<Batch[]> {
    const found: Batch[] = [];
    for (const queue of Object.values(this.outbox.queues))
      for (const destination of DESTINATIONS)
        for (let after = 0; after < queue.journal.last;) {
          const { batches, next } = await queue.read(destination, after, { bytesMax: 2 ** 24, recordsMax: 10_000 });
          for (const { blocks, ...note } of batches)
            if (note.pipeline === pipeline && note.destinations[0] === destination)
              found.push({ ...note, content: decodeBlocks(blocks) });
          after = next;
        }
    return found;
  }

  /** Sequences of the events in all batches. */
  async sequences(pipeline = "all"): Promise<number[]> {
    return (await this.batches(pipeline)).flatMap(({ content }) => content.flatMap(({ sequences }) => sequences));
  }

  /** Values of a column of all batches, by origin. */
  async values(pipeline: string, resource: string): Promise<[atMs: number, value: Value][]> {
    return (await this.batches(pipeline)).flatMap(({ content }) =>
      content.flatMap(({ series, origins, columns }) => {
        const column = columns[series.resources.findIndex(({ name }) => name === resource)] ?? [];
        return column.map((value, row): [number, Value] => [Number(origins[row] / 1_000_000n), value]);
      }),
    );
  }

  async confirmed(): Promise<number | undefined> {
    return (await this.bus.backlog({}, call())).followers.find((f) => f.name === "pipeline")?.position;
  }

  /** Tells whether all pipelines have all that is on the bus in the outbox. */
  async isThrough(): Promise<boolean> {
    const { last } = await this.bus.backlog({}, call());
    return this.pipelines.status(last).every(({ position }) => position === last);
  }
}

export const numbers = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);
export const nobody = (block: Block): void => assert.fail(`an event of ${block.series.deviceName} is lost`);
