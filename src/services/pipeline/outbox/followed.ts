/** How far the bus is followed by what is in the outbox: of each pipeline, what its last record says. */
import { QUEUE_CLASSES, type QueueClass } from "../pacing/priority.ts";
import type { ClassQueue } from "./queue.ts";
import { type BatchNote, KIND_BATCH, readNote } from "./record.ts";

/** How far a pipeline is by what is here. */
export interface PipelineMark {
  /** Position of the bus. */
  readonly through: number;
  /** Events that it has given since it is there; unknown where the cloud has told the position. */
  readonly emitted?: number | undefined;
}

/** The last record of a pipeline. */
interface LastRecord extends PipelineMark {
  readonly queue: QueueClass;
  readonly position: number;
}

export interface FollowedState {
  readonly pipelines: Readonly<Record<string, LastRecord>>;
  /** Records of each class that are told in `pipelines`. */
  readonly told: Partial<Record<QueueClass, number>>;
}

type Queues = Readonly<Record<QueueClass, ClassQueue>>;

export class Followed {
  readonly #last = new Map<string, LastRecord & { isSaved: boolean }>();

  /** Reads what the journals tell beyond what was saved; all that they tell where one of them was damaged. */
  static async read(queues: Queues, saved: FollowedState = { pipelines: {}, told: {} }): Promise<Followed> {
    const found = new Map<string, LastRecord>();
    for (const name of QUEUE_CLASSES) {
      const told = queues[name].isDamaged ? 0 : (saved.told[name] ?? 0);
      for (const [pipeline, last] of await lastRecords(queues[name], told))
        // A pipeline that has changed its class is in two of them.
        if (last.through >= (found.get(pipeline)?.through ?? 0)) found.set(pipeline, last);
    }
    const followed = new Followed();
    for (const [pipeline, last] of Object.entries(saved.pipelines)) {
      const known = found.get(pipeline);
      // Newer than what was saved, unless that record is gone without having arrived: then it is not vouched for.
      if (known && !isVouched(queues[last.queue], last)) continue;
      if (!known || known.through < last.through) followed.#last.set(pipeline, { ...last, isSaved: true });
    }
    for (const [pipeline, last] of found)
      if (!followed.#last.has(pipeline)) followed.#last.set(pipeline, { ...last, isSaved: false });
    return followed;
  }

  of(pipeline: string): PipelineMark | undefined {
    return this.#last.get(pipeline);
  }

  note(
    pipeline: string,
    { through, emitted }: Pick<BatchNote, "through" | "emitted">,
    queue: QueueClass,
    position: number,
  ): void {
    if (through !== undefined) this.#last.set(pipeline, { through, emitted, queue, position, isSaved: false });
  }

  learn(pipeline: string, through: number): void {
    const known = this.#last.get(pipeline);
    if (through > (known?.through ?? 0))
      this.#last.set(pipeline, { queue: "normal", position: 0, ...known, through, emitted: undefined, isSaved: false });
  }

  /** The first record of a class that only the journal tells; above all of them where there is none. */
  unsavedIn(name: QueueClass): number {
    let first = Number.MAX_SAFE_INTEGER;
    for (const { queue, position, isSaved } of this.#last.values())
      if (!isSaved && queue === name) first = Math.min(first, position);
    return first;
  }

  state(queues: Queues): FollowedState {
    const pipelines: Record<string, LastRecord> = {};
    for (const [name, { isSaved: _, ...last }] of this.#last) pipelines[name] = last;
    const { high, normal, low } = queues;
    return { pipelines, told: { high: high.journal.last, normal: normal.journal.last, low: low.journal.last } };
  }

  /** What was saved need not be told by a record. */
  saved({ pipelines }: FollowedState): void {
    for (const [name, { through }] of Object.entries(pipelines)) {
      const last = this.#last.get(name);
      if (last?.through === through) last.isSaved = true;
    }
  }
}

/** A record that was here and is not any more has arrived, or it was lost. */
function isVouched(queue: ClassQueue, { position }: LastRecord): boolean {
  return !queue.isDamaged || position < queue.journal.first || position <= queue.doneThrough;
}

async function lastRecords({ journal, name }: ClassQueue, told: number): Promise<Map<string, LastRecord>> {
  const found = new Map<string, LastRecord>();
  for (let after = Math.max(told, journal.first - 1); after < journal.last;) {
    const { records, next } = await journal.read(after);
    for (const { kind, key, payload, position } of records) {
      if (kind !== KIND_BATCH) continue;
      const { pipeline, through, emitted } = readNote(key, payload);
      if (through !== undefined) found.set(pipeline, { through, emitted, queue: name, position });
    }
    if (next <= after) break;
    after = next;
  }
  return found;
}
