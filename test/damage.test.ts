/** Damage: any file of the outbox, in each class, flipped, cut, emptied, zeroed or gone at rest. The node starts by itself, sends what it has, tells the rest. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { test } from "node:test";
import { seeded } from "../src/devices/virtual/series.ts";
import { PIPELINES, ROUNDS, SEED, TormentedHouse } from "./houses/tormented.ts";

/** A round damages a file of each class, and takes about 5 s. */
const TIMES = 2 + Math.round(ROUNDS / 3);
const TIMEOUT_MS = 120_000 + TIMES * 30_000;

/** What becomes of a file's bytes from one place on; undefined: the file goes. */
type Damage = (bytes: Buffer, at: number) => Uint8Array | undefined;
const DAMAGES: Readonly<Record<string, Damage>> = {
  "a bit flipped": (bytes, at) => bytes.map((byte, i) => (i === at ? byte ^ (1 << (at % 8)) : byte)),
  "a hole": (bytes, at) => bytes.fill(0, at, Math.min(bytes.length, at + 500)),
  "cut off": (bytes, at) => bytes.subarray(0, at),
  emptied: () => new Uint8Array(),
  zeroed: (bytes, at) => bytes.fill(0, at),
  "made longer": (bytes, at) => Buffer.concat([bytes, Buffer.alloc(1 + (at % 4_096), 0xa5)]),
  gone: () => undefined,
};

/** Damages a file of a class, a segment half of the time; tells what was done to which. */
function damage(house: TormentedHouse, name: string, random: () => number): string {
  const pick = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)];
  const files = house.outboxFiles().filter((path) => path.includes(join("outbox", name)));
  const path = pick(random() < 0.5 ? files.filter((file) => file.endsWith(".seg")) : files);
  const how = pick(Object.keys(DAMAGES));
  const bytes = readFileSync(path);
  // Most of what waits is near the end.
  const damaged = DAMAGES[how](bytes, Math.floor((1 - random() ** 3) * bytes.length));
  if (damaged) writeFileSync(path, damaged);
  else rmSync(path);
  return `${relative(house.nodeDirectory, path)} ${how}`;
}

test(
  `any file of the outbox damaged while it is off, ${TIMES} times in each class: nothing comes twice or out of order, and what is lost is told`,
  { timeout: TIMEOUT_MS },
  async (t) => {
    const random = seeded(SEED);
    const house = await TormentedHouse.open(t, { node: { pauseMs: 5 } });
    for (let n = 0; n < TIMES; n++) {
      await house.written(100);
      house.wire.mode = "cut";
      house.wire.drop();
      await house.written(400);
      await house.killNode();
      const done = Object.keys(PIPELINES).map((name) => damage(house, name, random));
      house.wire.mode = "pass";
      await house.startNode();
      await house.node.ask("write", true);
      await house.written(10);
      const missing = await house.accountWithLosses().catch((cause: unknown) => {
        throw new Error(done.join(", "), { cause });
      });
      t.diagnostic(`${done.join(", ")}: ${missing} events lost`);
    }
  },
);
