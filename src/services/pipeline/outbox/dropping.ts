/** Batches that go without having arrived: at the cap, oldest of the lowest class first; and when their time is over. */
import type { JournalRecord } from "../../../kernel/journal/journal.ts";
import type { GapReason } from "../../cloud/api.ts";
import { QUEUE_CLASSES, type QueueClass } from "../pacing/priority.ts";
import { type Gaps, Tally } from "./gaps.ts";
import type { Outbox } from "./outbox.ts";
import type { ClassQueue } from "./queue.ts";
import { KIND_BATCH, readNote } from "./record.ts";

/** Looked through at once. */
const CHUNK = { bytesMax: 1_048_576, recordsMax: 1_000 };
/** Now and then a smaller file gives its space back, too: after an outage it would keep it until it is full. */
const SWEPT_BYTES_MIN = 262_144;

/** Drops batches, of the lowest class first and of none above `name`, until it is enough. Space comes back in segments. */
export async function makeRoom(
  outbox: Outbox,
  gaps: Gaps,
  name: QueueClass,
  isNotEnough: () => boolean,
): Promise<void> {
  for (const lowest of [...QUEUE_CLASSES].reverse()) {
    const queue = outbox.queues[lowest];
    const { journal } = queue;
    for (let after = journal.first - 1; isNotEnough() && after < journal.last;) {
      const { records, next } = await journal.read(after, CHUNK);
      if (next <= after) break;
      letGo(queue, records, gaps, "dropped-full");
      settleThrough(queue, next);
      outbox.save();
      await outbox.trim();
      after = next;
    }
    if (lowest === name) return;
  }
}

/** Lets go of the oldest batches of each class whose time is over; those behind one that may stay wait for their turn. */
export async function sweep(outbox: Outbox, gaps: Gaps): Promise<void> {
  for (const queue of Object.values(outbox.queues)) {
    const { journal } = queue;
    for (let after = journal.first - 1; after < journal.last;) {
      const { records, next } = await journal.read(after, CHUNK);
      const end = records.findIndex(
        ({ kind, key, payload }) => kind === KIND_BATCH && !outbox.isExpired(readNote(key, payload)),
      );
      const old = end < 0 ? records : records.slice(0, end);
      letGo(queue, old, gaps, "expired");
      settleThrough(queue, end < 0 ? next : records[end].position - 1);
      if (end >= 0 || next <= after) break;
      after = next;
    }
  }
  await outbox.trim(SWEPT_BYTES_MIN);
}

/** Enters what destinations still waited for. */
function letGo(queue: ClassQueue, records: readonly JournalRecord[], gaps: Gaps, reason: GapReason): void {
  const tally = new Tally(queue.name, queue.stream.epoch);
  const waiting = new Set(queue.destinations);
  for (const { kind, key, payload, position } of records) {
    if (kind !== KIND_BATCH) continue;
    const note = readNote(key, payload);
    for (const destination of note.destinations)
      if (waiting.has(destination) && !queue.settled(destination).has(position)) tally.add(destination, position, note);
  }
  gaps.add(tally, reason);
}

function settleThrough(queue: ClassQueue, through: number): void {
  if (through < 1) return;
  for (const destination of queue.destinations) queue.settled(destination).add(1, through);
}
