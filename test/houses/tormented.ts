/** A node and a cloud as real processes, the wire between them, and the account that both must give after whatever was done to them. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { globSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { NODE_FLAGS } from "../../src/node/flags.ts";
import type { SequenceRange } from "../../src/kernel/sequences.ts";
import type { Gap } from "../../src/services/cloud/api.ts";
import type { PublisherAudit } from "../../src/services/cloud/audit.ts";
import type { Destination } from "../../src/services/pipeline/api.ts";
import type { Manner } from "./rogue.ts";
import { type After, type NodeConfig, pipelineOf, temporary } from "./uplink.ts";
import { Wire } from "./wire.ts";

const FLAGS = [...NODE_FLAGS, "--expose-gc", "--disable-warning=ExperimentalWarning"];
/** How often a fault is done: few at home, more in CI and in the soak. */
export const ROUNDS = Number(process.env["HOLDFAST_FAULT_ROUNDS"] ?? 3);
export const SEED = Number(process.env["HOLDFAST_SEED"] ?? 1);

const PROGRAM = join(import.meta.dirname, "tormented.child.ts");
/** A process is up within this on a machine that is busy, and what waits has arrived within the other once nothing is in the way. */
const START_MS_MAX = 180_000;
export const DRAIN_MS_MAX = 180_000;
/** Once all has arrived, what has not is told soon. */
const LEDGER_MS_MAX = 15_000;
const LOOK_EVERY_MS = 50;
/** Beyond what it had at the start a node takes no more than this, whatever is done to it: bus, pipeline and publisher are one process here. */
const GROWTH_BYTES_MAX = 64 * 2 ** 20;

export interface CloudSettings {
  readonly nodeCertificateDays?: number;
  /** Where its wall clock stands at the start. */
  readonly setMs?: number;
}
export interface NodeSettings {
  readonly seed?: number;
  /** Between two appends, on average. */
  readonly pauseMs?: number;
  /** So many readings of an event are random: nothing compresses them. */
  readonly pad?: number;
  readonly config?: NodeConfig;
}
/** Waits until something holds, and fails when that takes too long; asks now and then only, since asking is work for who is tormented. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, timeoutMs: number): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > endMs) throw new Error(`it took longer than ${timeoutMs / 1000} s until ${what}`);
    await sleep(LOOK_EVERY_MS);
  }
}

interface CommonAnswers {
  /** Sets the wall clock ahead, or back. */
  setClock(ms: number): Promise<void>;
  /** Of memory that is in use, after what is garbage has gone. */
  keptBytes(): Promise<number>;
}
export interface CloudAnswers extends CommonAnswers {
  ports(): Promise<{ cloud: number; rogue: number }>;
  code(): Promise<string>;
  audit(): Promise<PublisherAudit[]>;
  gaps(): Promise<Gap[]>;
  /** Kills itself at the answer to so many requests from now on. */
  dieAfter(accepts: number): Promise<void>;
  /** How the rogue beside it behaves from now on. */
  behave(manner: Manner): Promise<void>;
  asked(): Promise<number[]>;
}
export interface NodeStatus {
  /** Records of the bus that no pipeline has followed, and batches that wait. */
  readonly behind: number;
  readonly busBytes: number;
  readonly gaps: Gap[];
  readonly losses: readonly { readonly reason: string }[];
  /** Appends that the bus refused. */
  readonly refused: number;
}
export interface NodeAnswers extends CommonAnswers {
  enroll(of: { url: string; code: string }): Promise<void>;
  destination(): Promise<Destination>;
  status(): Promise<NodeStatus>;
  /** The last of them in its log. */
  warnings(): Promise<string[]>;
  /** Has it append events, or not. */
  write(isOn: boolean): Promise<void>;
}
type Question = (of: never) => Promise<unknown>;

/** One process. */
export class Tormented<A extends Record<keyof A, Question>> {
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #up = Promise.withResolvers<void>();
  #asked = 0;
  #text = "";
  /** By epoch of the publisher the last event that was acknowledged. */
  readonly acknowledged = new Map<number, number>();

  /** `within` is a command that runs it, such as one that enters a network namespace. */
  constructor(role: "cloud" | "node", directory: string, settings: object, within: readonly string[] = []) {
    const [command, ...args] = [...within, process.execPath, ...FLAGS, PROGRAM];
    const child = spawn(command, [...args, role, directory, JSON.stringify(settings)], {
      stdio: ["ignore", "pipe", "inherit", "ipc"],
      // Times in nanoseconds are no JSON.
      serialization: "advanced",
    });
    this.#child = child;
    this.#closed = once(child, "close");
    child.stdout!.setEncoding("utf8").on("data", (part: string) => this.#read(part));
    child.on("message", ({ id, value, error }: { id: number; value?: unknown; error?: string }) => {
      if (id === 0) return this.#up.resolve();
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(value);
      else waiting?.reject(new Error(error));
    });
    child.once("exit", () => {
      const gone = new Error(`the ${role} is gone`);
      this.#up.reject(gone);
      for (const { reject } of this.#waiting.values()) reject(gone);
      this.#waiting.clear();
    });
    this.#up.promise.catch(() => undefined);
  }

  async up(): Promise<this> {
    const timer = setTimeout(() => this.#up.reject(new Error("a process did not come up")), START_MS_MAX);
    await this.#up.promise.finally(() => clearTimeout(timer));
    return this;
  }

  get isAlive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  async ask<Q extends keyof A & string>(ask: Q, ...[of]: Parameters<A[Q]>): Promise<Awaited<ReturnType<A[Q]>>> {
    const id = ++this.#asked;
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.set(id, waiting);
    this.#child.send({ id, ask, of }, (error) => error && waiting.reject(error));
    return waiting.promise as Promise<Awaited<ReturnType<A[Q]>>>;
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#closed;
  }

  /** Waits for it to die of itself. */
  async died(): Promise<void> {
    await this.#closed;
  }

  #read(part: string): void {
    const lines = (this.#text + part).split("\n");
    this.#text = lines.pop()!;
    for (const line of lines) {
      const said = /^a (\d+) (\d+)$/.exec(line);
      if (said) this.acknowledged.set(Number(said[1]), Number(said[2]));
    }
  }
}

const BATCH_EVENTS_MAX = 50;
/** One pipeline a class of priority, named as that, so that all three journals of the outbox are written to. */
export const PIPELINES = {
  high: pipelineOf(10, BATCH_EVENTS_MAX, [], 9),
  normal: pipelineOf(10, BATCH_EVENTS_MAX, [], 5),
  low: pipelineOf(10, BATCH_EVENTS_MAX, [], 1),
} as const;

export interface HouseSettings {
  readonly cloud?: CloudSettings;
  readonly node?: NodeSettings;
  /** Where the node's state is, if not beside the cloud's. */
  readonly nodeDirectory?: string;
  /** A command that runs both; they are then not joined by the wire. */
  readonly within?: readonly string[];
}

/** Node, cloud and wire. */
export class TormentedHouse {
  readonly wire: Wire;
  readonly directory: string;
  readonly nodeDirectory: string;
  cloud!: Tormented<CloudAnswers>;
  node!: Tormented<NodeAnswers>;
  readonly #settings: HouseSettings;
  readonly #acknowledged = new Map<number, number>();
  #startBytes = 0;
  #seed: number;

  private constructor(directory: string, wire: Wire, settings: HouseSettings) {
    this.directory = directory;
    this.nodeDirectory = settings.nodeDirectory ?? join(directory, "node");
    this.wire = wire;
    this.#settings = settings;
    this.#seed = settings.node?.seed ?? SEED;
  }

  /** Starts both, enrolls the node, and has it write. */
  static async open(t: After, settings: HouseSettings = {}): Promise<TormentedHouse> {
    const house = new TormentedHouse(temporary(t), await Wire.open(0), settings);
    t.after(async () => {
      await Promise.all([house.node?.kill(), house.cloud?.kill(), house.wire.close()]);
    });
    await Promise.all([house.startCloud(), house.startNode()]);
    await house.enroll();
    await house.node.ask("write", true);
    return house;
  }

  async startCloud(settings: CloudSettings = this.#settings.cloud ?? {}): Promise<void> {
    const { within } = this.#settings;
    this.cloud = await new Tormented<CloudAnswers>("cloud", join(this.directory, "cloud"), settings, within).up();
    this.wire.to = (await this.cloud.ask("ports")).cloud;
  }

  /** Starts the node; it writes only when it is told to. */
  async startNode(): Promise<void> {
    const { node: { config, ...settings } = {}, within } = this.#settings;
    const pipeline = { pipelines: PIPELINES, outboxBytesMax: 2 ** 23, ...config?.pipeline };
    const all = { ...settings, seed: this.#seed++, config: { ...config, pipeline } };
    this.node = await new Tormented<NodeAnswers>("node", this.nodeDirectory, all, within).up();
    this.#startBytes = await this.node.ask("keptBytes");
  }

  async enroll(): Promise<void> {
    const { cloud, rogue: _ } = await this.cloud.ask("ports");
    const url = this.#settings.within ? `https://127.0.0.1:${cloud}` : this.wire.url;
    await this.node.ask("enroll", { url, code: await this.cloud.ask("code") });
  }

  async killNode(): Promise<void> {
    await this.node.kill();
    this.#note();
  }

  /** Leads the wire to the rogue with such manners, or back to the cloud. */
  async goRogue(manner: Manner | undefined): Promise<void> {
    const { cloud, rogue } = await this.cloud.ask("ports");
    if (manner) await this.cloud.ask("behave", manner);
    this.wire.to = manner ? rogue : cloud;
    this.wire.drop();
  }

  /** Waits until so many more events were acknowledged. */
  async written(more: number): Promise<void> {
    const count = () => [...this.node.acknowledged.values()].reduce((a, b) => a + b, 0);
    const end = count() + more;
    await until(`${more} events are acknowledged`, () => count() >= end, DRAIN_MS_MAX);
  }

  /** Stops writing, and waits until all that was acknowledged has arrived. */
  async settle(): Promise<void> {
    await this.node.ask("write", false);
    let behind = -1;
    await until(
      "all has arrived",
      async () => (behind = (await this.node.ask("status")).behind) === 0,
      DRAIN_MS_MAX,
    ).catch(async (error: unknown) => {
      const told = [JSON.stringify(await this.node.ask("destination")), ...(await this.node.ask("warnings"))];
      throw new Error(`${behind} behind\n${told.join("\n")}`, { cause: error });
    });
    this.#note();
  }

  /**
   * Settles, and holds both to account: what was acknowledged is at the cloud once and in order, in each pipeline; nothing is in
   * the gap ledger; memory is bounded. Answers how many events that were. Then the node writes on.
   */
  async account(): Promise<number> {
    await this.settle();
    for (const { what, ranges, last } of await this.#audited())
      assert.ok(
        ranges.length === 1 && ranges[0].from === 1 && ranges[0].to >= last,
        `${what} has 1 to ${last}: ${shown(ranges)}`,
      );
    assert.deepEqual(await this.cloud.ask("gaps"), []);
    await this.assertMemory();
    await this.node.ask("write", true);
    return [...this.#acknowledged.values()].reduce((a, b) => a + b, 0);
  }

  /** As `account`, where the disk was damaged: what is missing is in the gap ledger of the cloud. Answers how many events that are. */
  async accountWithLosses(): Promise<number> {
    await this.settle();
    let missing = 0;
    for (const { pipeline, what, ranges, last } of await this.#audited()) {
      const end = ranges.at(-1)?.to ?? 0;
      assert.ok(end >= last, `${what}: what came last is there: ${shown(ranges)}`);
      const gone = ranges.reduce((sum, { from, to }) => sum - (to - from + 1), end);
      missing += gone;
      if (gone === 0) continue;
      const batches = async () =>
        (await this.cloud.ask("gaps"))
          .filter((gap) => gap.class === pipeline && gap.reason === "damaged")
          .reduce((sum, { from, to }) => sum + to - from + 1, 0);
      await until(
        `the cloud is told of ${gone} events of ${what} in ${shown(ranges)}`,
        async () => (await batches()) * BATCH_EVENTS_MAX >= gone,
        LEDGER_MS_MAX,
      );
    }
    await this.node.ask("write", true);
    return missing;
  }

  async assertMemory(): Promise<void> {
    const grown = (await this.node.ask("keptBytes")) - this.#startBytes;
    assert.ok(grown < GROWTH_BYTES_MAX, `the node has grown by ${Math.round(grown / 2 ** 20)} MiB`);
  }

  /** Bytes of the outbox's journals. */
  outboxBytes(): number {
    return this.outboxFiles().reduce((sum, path) => sum + (statSync(path, { throwIfNoEntry: false })?.size ?? 0), 0);
  }

  /** All files of the outbox. */
  outboxFiles(): string[] {
    const directory = join(this.nodeDirectory, "pipeline", "outbox");
    return globSync("**/*", { cwd: directory })
      .map((name) => join(directory, name))
      .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile())
      .toSorted();
  }

  #note(): void {
    for (const [epoch, last] of this.node.acknowledged) this.#acknowledged.set(epoch, last);
  }

  /** What the cloud has of each pipeline and epoch of the publisher; none of it twice, and all in order. */
  async #audited(): Promise<{ pipeline: string; what: string; ranges: readonly SequenceRange[]; last: number }[]> {
    const publishers = await this.cloud.ask("audit");
    for (const { pipeline, epoch, duplicates, outOfOrder } of publishers)
      assert.deepEqual({ pipeline, epoch, duplicates, outOfOrder }, { pipeline, epoch, duplicates: 0, outOfOrder: 0 });
    return Object.keys(PIPELINES).flatMap((pipeline) =>
      [...this.#acknowledged].map(([epoch, last]) => {
        const found = publishers.find((p) => p.pipeline === pipeline && p.epoch === epoch);
        return { pipeline, what: `pipeline '${pipeline}', epoch ${epoch}`, ranges: found?.ranges ?? [], last };
      }),
    );
  }
}

const shown = (ranges: readonly SequenceRange[]): string => ranges.map(({ from, to }) => `${from}-${to}`).join(" ");
