/** Epochs: a number that grows with every start, so that what a restarted publisher sends is never taken for the old. */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "./clock.ts";

const YEAR_2020_MS = Date.UTC(2020, 0, 1);
const EPOCH_END = 2 ** 32;

/**
 * Takes the next epoch and keeps it in `directory`: seconds since 2020, or one more than the last where the clock does not
 * say more (it was turned back, or two starts fell into one second). Not secret, so not encrypted.
 */
export function nextEpoch(directory: string, clock: Clock, name = "epoch"): number {
  const path = join(directory, name);
  const epoch = Math.max(lastEpoch(path) + 1, Math.floor((clock.wallMs() - YEAR_2020_MS) / 1000));
  // A clock that once stood in the far future must not use up the epochs: from there on they are counted by one.
  const kept = epoch < EPOCH_END ? epoch : lastEpoch(path) + 1;
  const fd = openSync(`${path}.new`, "w", 0o600);
  writeSync(fd, `${kept}\n`);
  fsyncSync(fd);
  closeSync(fd);
  renameSync(`${path}.new`, path);
  const dir = openSync(directory, "r");
  fsyncSync(dir);
  closeSync(dir);
  return kept;
}

function lastEpoch(path: string): number {
  try {
    const text = readFileSync(path, "utf8").trim();
    return /^\d{1,10}$/.test(text) ? Number(text) : 0;
  } catch {
    // Never started here, or the file is gone: the clock alone decides.
    return 0;
  }
}
