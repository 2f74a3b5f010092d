/** Events of strangers: the bus numbers them under their service's name and its own epoch, and keeps each id once. */
import { encodeBlocks } from "../../kernel/events/codec.ts";
import type { EventRow } from "../../kernel/events/edgex.ts";
import type { Block, Extra, Value } from "../../kernel/events/model.ts";
import type { Seen } from "./seen.ts";

export interface ForeignOptions {
  readonly epoch: number;
  readonly seen: Seen;
  /** Resolves when the ids of earlier events are known again. */
  readonly recalled: Promise<void>;
  /** Appends to the journal; answers the position once it is on the disk. */
  readonly append: (topic: string, payload: Uint8Array) => Promise<number>;
  readonly end: () => number;
}

export interface Kept {
  readonly position: number;
  /** Nothing was new. */
  readonly duplicate: boolean;
  /** What was new, numbered. */
  readonly blocks: readonly Block[];
}

/** Makes a block of one event; it gets its number when it is kept. */
export function blockOf(row: EventRow): Block {
  const extras = new Map<number, Extra>(row.extra ? [[0, row.extra]] : []);
  return {
    publisher: { name: "", epoch: 0 },
    series: row.series,
    sequences: [1],
    origins: [row.origin],
    columns: row.values.map((v): Value[] => [v]),
    extras,
  };
}

const idOf = (block: Block, row: number): string | undefined => block.extras.get(row)?.ids?.[0];

export class Foreign {
  readonly #options: ForeignOptions;
  readonly #flying = new Map<string, Promise<unknown>>();
  #ready = false;
  /** One count for all strangers: they may have any number of names, and a name needs no memory so. */
  #sequence = 0;

  constructor(options: ForeignOptions) {
    this.#options = options;
    void options.recalled.then(() => (this.#ready = true));
  }

  /** Keeps what is new of the blocks under a publisher; answers when it is on the disk. */
  async keep(publisher: string, topic: string, blocks: readonly Block[]): Promise<Kept> {
    if (!this.#ready) await this.#options.recalled;
    const ids = new Set<string>();
    for (const block of blocks) for (let row = 0; row < block.sequences.length; row++) addIf(ids, idOf(block, row));
    for (;;) {
      const flying = [...ids].map((id) => this.#flying.get(id)).filter((p) => p !== undefined);
      if (flying.length === 0) break;
      await Promise.allSettled(flying);
    }
    const named = { name: publisher, epoch: this.#options.epoch };
    const taken = new Set<string>();
    const fresh = blocks
      .map((block) => this.#number({ ...block, publisher: named }, taken))
      .filter((block) => block.sequences.length > 0);
    if (fresh.length === 0) return { position: this.#options.end(), duplicate: true, blocks: [] };
    const appended = this.#options.append(topic, encodeBlocks(fresh));
    for (const id of taken) this.#flying.set(id, appended);
    try {
      const position = await appended;
      for (const id of taken) this.#options.seen.add(id, position);
      return { position, duplicate: false, blocks: fresh };
    } finally {
      for (const id of taken) this.#flying.delete(id);
    }
  }

  /** Leaves out the rows whose ids are known and numbers the others. */
  #number(block: Block, taken: Set<string>): Block {
    const rows: number[] = [];
    for (let row = 0; row < block.sequences.length; row++) {
      const id = idOf(block, row);
      if (id !== undefined && (taken.has(id) || this.#options.seen.has(id))) continue;
      addIf(taken, id);
      rows.push(row);
    }
    const pick = <T>(from: readonly T[]): T[] => rows.map((row) => from[row]);
    const extras = new Map<number, Extra>();
    rows.forEach((row, to) => {
      const extra = block.extras.get(row);
      if (extra) extras.set(to, extra);
    });
    return {
      ...block,
      sequences: rows.map(() => ++this.#sequence),
      origins: pick(block.origins),
      columns: block.columns.map(pick),
      extras,
    };
  }
}

const addIf = (set: Set<string>, id: string | undefined): void => {
  if (id !== undefined) set.add(id);
};
