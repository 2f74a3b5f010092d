/** Keeps what a pipeline's functions remember on the disk: not more often than it is worth. */
import type { Block } from "../../../kernel/events/model.ts";
import { makeBatches } from "../batch.ts";
import type { Parts } from "./parts.ts";
import type { Mark } from "./tables.ts";

/** What the functions remember goes to the disk so often, and less often where that takes over 2% of the time. */
const EVERY_MS = 1_000;
const COST_SHARE = 50;

/** What there is to keep at a moment. */
export interface Moment extends Mark {
  /** Undefined: the functions begin anew. */
  readonly state: readonly unknown[] | undefined;
}

export class Checkpoints {
  readonly #p: Parts;
  readonly #name: string;
  readonly #eventsMax: number;
  #keptMs: number;
  #costMs = 0;

  /** `eventsMax`: of a batch. */
  constructor(parts: Parts, name: string, eventsMax: number) {
    this.#p = parts;
    this.#name = name;
    this.#eventsMax = eventsMax;
    this.#keptMs = parts.clock.monotonicMs();
  }

  get isDue(): boolean {
    return this.#p.clock.monotonicMs() - this.#keptMs >= Math.max(EVERY_MS, this.#costMs * COST_SHARE);
  }

  /** Keeps how things are, with the events that are given and not in the outbox yet. DATABASE_*. */
  keep({ position, emitted, state }: Moment, blocks: readonly Block[], definition: unknown): void {
    const { clock, departures, tables } = this.#p;
    const startMs = clock.monotonicMs();
    const pending = makeBatches(blocks, this.#eventsMax, () => undefined).map((batch) => batch.blocks);
    const json = JSON.stringify(definition);
    tables.save(this.#name, { position, emitted, definition: json, state, pending }, departures.of(this.#name));
    this.#keptMs = clock.monotonicMs();
    this.#costMs = this.#keptMs - startMs;
  }
}
