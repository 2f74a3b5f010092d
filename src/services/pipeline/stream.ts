/** Which count of sequences the outbox is in: the far side's mark belongs to one. Not secret, so not encrypted. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../kernel/clock.ts";
import { nextEpoch } from "../../kernel/epoch.ts";
import { replaceFile } from "../../kernel/seal/durable-file.ts";

export interface Stream {
  /** Grows only when sequences could come twice: the outbox was made anew, or its end was lost. */
  readonly epoch: number;
  /** Batches up to this one were sent in an earlier epoch. */
  readonly floor: number;
}

/** Written one after the other: without it everything would be sent anew, and be at the cloud twice. */
const FILES = ["stream", "stream.bak"] as const;

/** Reads what was kept; undefined where there is nothing, or nothing whole. */
export function loadStream(directory: string): Stream | undefined {
  // A power cut between the two leaves one of them older: epochs only grow.
  return FILES.map((name) => read(join(directory, name)))
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
  const found = /^(\d{1,10}) (\d{1,16})\n$/.exec(text);
  return found ? { epoch: Number(found[1]), floor: Number(found[2]) } : undefined;
}

export async function keepStream(directory: string, { epoch, floor }: Stream): Promise<void> {
  for (const name of FILES) await replaceFile(join(directory, name), Buffer.from(`${epoch} ${floor}\n`));
}

/** Begins the next count; epochs never come twice, wherever the clock stands. */
export const nextStream = (directory: string, clock: Clock, floor: number): Stream => ({
  epoch: nextEpoch(directory, clock),
  floor,
});
