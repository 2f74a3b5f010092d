/** Which count of sequences a class of the outbox is in: the far side's mark belongs to one. Not secret, so not encrypted. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import type { Clock } from "../../../kernel/clock.ts";
import { nextEpoch } from "../../../kernel/epoch.ts";
import { replaceFile } from "../../../kernel/seal/durable-file.ts";
import type { SequenceRange } from "../../../kernel/sequences.ts";
import type { QueueClass } from "../pacing/priority.ts";

export interface Stream {
  /** Grows only when sequences could come twice: the journal was made anew, or its end was lost. */
  readonly epoch: number;
  /** Batches that the cloud had in earlier epochs. */
  readonly before: readonly SequenceRange[];
}

/** Written one after the other: without it everything would be sent anew, and be at the cloud twice. */
const ENDS = [".stream", ".stream.bak"] as const;

/** Reads what was kept; undefined where there is nothing, or nothing whole. */
export function loadStream(directory: string, name: QueueClass): Stream | undefined {
  // A power cut between the two leaves one of them older: epochs only grow.
  return ENDS.map((end) => read(join(directory, name + end)))
    .filter((stream) => stream !== undefined)
    .toSorted((a, b) => b.epoch - a.epoch)[0];
}

function read(path: string): Stream | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  // A flipped bit makes another number of a number: believed, all would be sent anew under it.
  const found = /^(\d{1,10}) ((?:\d{1,16}-\d{1,16},?)*) ([0-9a-f]{1,8})\n$/.exec(text);
  if (!found || checksum(`${found[1]} ${found[2]}`) !== found[3]) return undefined;
  const ranges = found[2].split(",").filter((range) => range !== "");
  return {
    epoch: Number(found[1]),
    before: ranges.map((range) => range.split("-").map(Number)).map(([from, to]) => ({ from, to })),
  };
}

export async function keepStream(directory: string, name: QueueClass, { epoch, before }: Stream): Promise<void> {
  const text = `${epoch} ${before.map(({ from, to }) => `${from}-${to}`).join(",")}`;
  for (const end of ENDS) await replaceFile(join(directory, name + end), Buffer.from(`${text} ${checksum(text)}\n`));
}

const checksum = (text: string): string => crc32(text).toString(16);

/** Begins the next count; epochs never come twice, wherever the clock stands. */
export const nextStream = (
  directory: string,
  name: QueueClass,
  clock: Clock,
  before: readonly SequenceRange[],
): Stream => ({ epoch: nextEpoch(directory, clock, `${name}.epoch`), before });
