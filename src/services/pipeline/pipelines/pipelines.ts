/** The pipelines of a node: which there are, begun and ended while it runs, and how far all of them have the bus. */
import { makeCall } from "../../../kernel/call.ts";
import { fail } from "../../../kernel/error.ts";
import { forever } from "../../../kernel/forever.ts";
import { type Leaving, PIPELINE_DESTINATION_UNKNOWN, PIPELINE_UNKNOWN, type PipelineStatus } from "../pipelines.api.ts";
import type { Catalogue } from "./catalogue.ts";
import { Chain } from "./chain.ts";
import type { PipelineDefinition } from "./definition.ts";
import { FOLLOWER } from "./following.ts";
import type { Parts } from "./parts.ts";
import { Run } from "./run.ts";
import { setTimeout as sleep } from "node:timers/promises";

/** The bus is told so often how far the pipelines are; it only trims by it. */
const CONFIRM_EVERY_MS = 1_000;
const CALL_TIMEOUT_MS = 5_000;

export interface PipelinesOptions {
  readonly parts: Parts;
  readonly catalogue: Catalogue<PipelineDefinition>;
  /** Names of the destinations there are. */
  readonly destinations: readonly string[];
  readonly signal: AbortSignal;
}

export class Pipelines {
  readonly #p: Parts;
  readonly #catalogue: Catalogue<PipelineDefinition>;
  readonly #destinations: ReadonlySet<string>;
  readonly #signal: AbortSignal;
  readonly #runs = new Map<string, Run>();
  /** Pipelines that are not declared any more, and still hold something. */
  readonly #ending = new Map<string, Promise<void>>();
  readonly #endingRuns = new Set<Run>();
  #confirming: Promise<void> = Promise.resolve();
  #confirmed = 0;
  /** One change at a time. */
  #changing: Promise<void> = Promise.resolve();

  /** PIPELINE_DESTINATION_UNKNOWN, PIPELINE_LOGIC_INVALID: the config cannot be used. */
  constructor({ parts, catalogue, destinations, signal }: PipelinesOptions) {
    this.#p = parts;
    this.#catalogue = catalogue;
    this.#destinations = new Set(destinations);
    this.#signal = signal;
    for (const [name, { value }] of catalogue.all) this.#check(name, value);
  }

  /** Begins all pipelines once the bus answers. */
  async start(): Promise<void> {
    const { clock, log, tables } = this.#p;
    const known = tables.names;
    await forever({ what: "placing the pipelines", clock, log, signal: this.#signal }, async () => {
      const places = await this.#places(known.length === 0);
      for (const [name, { value }] of this.#catalogue.all) this.#place(name, value, places);
      this.#begin(known);
    });
  }
}
