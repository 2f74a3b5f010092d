/** One pipeline at work: goes on where it was, brings an older definition of itself to its end first, and tells how it is. */
import { forever } from "../../../kernel/forever.ts";
import { asFailure } from "../../../kernel/error.ts";
import type { FunctionReport } from "./chain.ts";
import type { PipelineDefinition } from "./definition.ts";
import { Following } from "./following.ts";
import type { Parts } from "./parts.ts";

export class Run {
  readonly name: string;
  readonly definition: PipelineDefinition;
  readonly #p: Parts;
  readonly #stopping = new AbortController();
  #following: Following;
  #running: Promise<void> = Promise.resolve();
  #fault: { readonly message: string; readonly position: number } | undefined;

  /** PIPELINE_LOGIC_INVALID, PIPELINE_WINDOW_INVALID. */
  constructor(parts: Parts, name: string, definition: PipelineDefinition) {
    this.#p = parts;
    this.name = name;
    this.definition = definition;
    this.#following = new Following(parts, name, definition);
  }

  start(): void {
    const { clock, log } = this.#p;
    const { signal } = this.#stopping;
    const what = `pipeline '${this.name}'`;
    this.#running = forever({ what, clock, log, signal }, async () => {
      try {
        await this.#finishOlder(signal, this.definition);
        this.#following = new Following(this.#p, this.name, this.definition);
        await this.#following.run(signal);
      } catch (error) {
        if (!signal.aborted) this.#fault = { message: asFailure(error).message, position: this.#following.followed };
        throw error;
      }
    });
  }

  /** Stops; what it has gathered is made again at the next start. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  /** Brings the pipeline to its end, for good: what its functions hold goes to the outbox. It must not run. */
  async end(signal: AbortSignal): Promise<void> {
    const { clock, log, tables } = this.#p;
    const ended = new AbortController();
    const what = `the end of pipeline '${this.name}'`;
    await forever({ what, clock, log, signal: AbortSignal.any([signal, ended.signal]) }, async () => {
      await this.#finishOlder(signal);
      if (signal.aborted) return;
      tables.remove(this.name);
      ended.abort();
    });
  }

  /**
   * What was given under another definition than `next` is brought to its end under that one: events in the outbox are
   * counted by what it made of the bus, and its functions give what they hold.
   */
  async #finishOlder(signal: AbortSignal, next?: PipelineDefinition): Promise<void> {
    const { tables } = this.#p;
    const kept = tables.load(this.name);
    if (!kept) return;
    const definition = JSON.parse(kept.definition) as PipelineDefinition;
    if (next && isAlike(definition, next)) return tables.define(this.name, JSON.stringify(next));
    const older = new Following(this.#p, this.name, definition);
    this.#following = older;
    await older.run(signal, true);
    if (!signal.aborted) await older.finish(next ?? definition);
  }

  /** Position of the bus from which on the pipeline needs it. */
  get safe(): number {
    return this.#following.safe;
  }

  settle(): void {
    this.#following.settle();
  }

  /** How far it is, what each function did, and why it stands still where it does. */
  get state(): { position: number; fault?: string; functions: FunctionReport[] } {
    const { followed: position, chain } = this.#following;
    const fault = this.#fault?.position === position ? { fault: this.#fault.message } : {};
    return { position, functions: chain.report(), ...fault };
  }
}

/** What the functions remember of one definition is of use to the other. */
const isAlike = (a: PipelineDefinition, b: PipelineDefinition): boolean =>
  JSON.stringify([a.topics, a.functions]) === JSON.stringify([b.topics, b.functions]);
