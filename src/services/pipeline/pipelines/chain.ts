/** The functions of a pipeline, one after the other, with what each has saved. */
import type { Block } from "../../../kernel/events/model.ts";
import { readingsOf } from "./columns.ts";
import type { FunctionSpec } from "./definition.ts";
import { addTags, filterByName, filterByResource, jsonLogic } from "./filters.ts";
import { coarsen, drop, pseudonym } from "./privacy.ts";
import { makeReduction } from "../reduce/reduction.ts";
import type { Stage } from "./stage.ts";

/** What a function did. */
export interface FunctionReport {
  readonly function: string;
  readonly readingsIn: number;
  readonly readingsOut: number;
  /** The largest difference between a reading and what is left of it, in the reading's units; where the function knows one. */
  readonly errorMax?: number;
}

interface Step {
  readonly name: string;
  readonly stage: Stage;
  readingsIn: number;
  readingsOut: number;
}

export interface ChainOptions {
  readonly pipeline: string;
  readonly pseudonymKey: Uint8Array;
}

/** Makes the stage of a function; undefined for one that is about batches. */
function stageOf(spec: FunctionSpec, { pipeline, pseudonymKey }: ChainOptions): Stage | undefined {
  switch (spec.function) {
    case "FilterByDeviceName":
      return filterByName(({ deviceName }) => deviceName, spec.deviceNames, spec.filterOut);
    case "FilterByProfileName":
      return filterByName(({ profileName }) => profileName, spec.profileNames, spec.filterOut);
    case "FilterBySourceName":
      return filterByName(({ sourceName }) => sourceName, spec.sourceNames, spec.filterOut);
    case "FilterByResourceName":
      return filterByResource(spec.resourceNames, spec.filterOut);
    case "AddTags":
      return addTags(spec.tags);
    case "JSONLogic":
      return jsonLogic(spec.rule);
    case "Drop":
      return drop(spec.resources, spec.tags);
    case "Coarsen":
      return coarsen(spec);
    case "Pseudonym":
      return pseudonym({ key: pseudonymKey, device: spec.device, resources: spec.resources ?? [] });
    case "BatchByCount":
    case "BatchByTime":
    case "BatchByTimeAndCount":
    case "Transform":
    case "Compress":
    case "Encrypt":
    case "HTTPExport":
    case "MQTTExport":
      return undefined;
    default:
      return makeReduction(spec, { pipeline });
  }
}

/** Tells whether a function makes few readings of many, or others of them: not what it filters, tags or hides. */
export const isReducing = (spec: FunctionSpec): boolean => !ORIGINAL.has(spec.function);

const ORIGINAL: ReadonlySet<FunctionSpec["function"]> = new Set([
  "FilterByDeviceName",
  "FilterByProfileName",
  "FilterBySourceName",
  "FilterByResourceName",
  "AddTags",
  "JSONLogic",
  "Drop",
  "Coarsen",
  "Pseudonym",
]);

export class Chain {
  readonly #steps: readonly Step[];
  /** Whether a function has a memory, which is then saved with the position that it belongs to. */
  readonly isStateful: boolean;

  /** PIPELINE_LOGIC_INVALID, PIPELINE_WINDOW_INVALID. */
  constructor(functions: readonly FunctionSpec[], options: ChainOptions) {
    this.#steps = functions.flatMap((spec) => {
      const stage = stageOf(spec, options);
      return stage ? [{ name: spec.function, stage, readingsIn: 0, readingsOut: 0 }] : [];
    });
    this.isStateful = this.#steps.some(({ stage }) => "save" in stage);
  }

  push(blocks: readonly Block[]): Block[] {
    return this.#through(blocks, 0);
  }

  /** What is due by the time; undefined where no function had anything to give. */
  tick(nowNs: bigint): Block[] | undefined {
    return this.#collect((stage) => stage.tick?.(nowNs) ?? []);
  }

  /** What the functions still hold. */
  flush(): Block[] {
    return this.#collect((stage) => stage.flush?.() ?? []) ?? [];
  }

  /** Walks the steps: what one gives by itself goes through those behind it, before they are asked themselves. */
  #collect(ask: (stage: Stage) => Block[]): Block[] | undefined {
    let found: Block[] | undefined;
    this.#steps.forEach((step, at) => {
      const made = ask(step.stage);
      if (made.length === 0) return;
      step.readingsOut += count(made);
      (found ??= []).push(...this.#through(made, at + 1));
    });
    return found;
  }

  #through(blocks: readonly Block[], from: number): Block[] {
    if (from === this.#steps.length) return [...blocks];
    let present = [...blocks];
    let readings = count(present);
    for (let at = from; at < this.#steps.length && present.length > 0; at++) {
      const step = this.#steps[at];
      step.readingsIn += readings;
      present = present.flatMap((block) => step.stage.push(block));
      readings = count(present);
      step.readingsOut += readings;
    }
    return present;
  }

  /** What the functions remember, in order. */
  save(): unknown[] {
    return this.#steps.map(({ stage }) => stage.save?.() ?? null);
  }

  load(state: readonly unknown[]): void {
    this.#steps.forEach(({ stage }, at) => stage.load?.(state[at]));
  }

  /** What each function did since the start. */
  report(): FunctionReport[] {
    return this.#steps.map(({ name, stage, readingsIn, readingsOut }) => {
      const { errorMax, ...known } = stage.report?.() ?? {};
      const counts = { readingsIn, readingsOut, ...known };
      return {
        function: name,
        readingsIn: counts.readingsIn,
        readingsOut: counts.readingsOut,
        ...(errorMax === undefined ? {} : { errorMax }),
      };
    });
  }
}

const count = (blocks: readonly Block[]): number => blocks.reduce((sum, block) => sum + readingsOf(block), 0);
