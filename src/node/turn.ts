/** Lets one process at a time make what all of them use: the others wait until it is there. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const LOOK_MS = 50;
/** Longer than anything takes that is made so: whoever holds its turn past it hangs, or its number is another process's now. */
export const TURN_MS_MAX = 120_000;

/**
 * Runs `make` while no other process does, unless `isMade` by then. `lock` is a file with the number of the process whose
 * turn it is; one that was killed leaves it, and the next takes it over. Rejects as `make` and the file system do.
 */
export async function inTurn(lock: string, isMade: () => boolean, make: () => Promise<void>): Promise<void> {
  const untilMs = performance.now() + TURN_MS_MAX;
  while (!isMade()) {
    if (!take(lock)) {
      if (isLeft(lock) || performance.now() > untilMs) rmSync(lock, { force: true });
      else await sleep(LOOK_MS);
      continue;
    }
    try {
      if (!isMade()) await make();
      return;
    } finally {
      rmSync(lock, { force: true });
    }
  }
}

function take(lock: string): boolean {
  try {
    writeFileSync(lock, String(process.pid), { flag: "wx", mode: 0o644 });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Tells whether the process whose turn it is has ended. */
function isLeft(lock: string): boolean {
  let pid: number;
  try {
    pid = Number(readFileSync(lock, "utf8"));
  } catch {
    return false;
  }
  // Not written yet.
  if (!(pid > 0)) return false;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}
