/** What the tests of the services at the edge share: a house of real services in this process, and ways to wait for it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Writable } from "node:stream";
import { type Call, makeCall } from "../../src/kernel/call.ts";
import { type Clock, systemClock } from "../../src/kernel/clock.ts";
import { makeLog } from "../../src/kernel/log.ts";
import { type LocalHouse, makeLocalHouse } from "../../src/node/local.ts";

type Test = { after(work: () => void | Promise<void>): void };

/** A new directory, removed when the test ends. */
export function temporary(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-edge-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export interface EdgeHouse extends LocalHouse {
  /** What was logged. */
  readonly lines: Readonly<Record<string, unknown>>[];
}

/** A house with nothing in it yet; stopped when the test ends, unless it was before. */
export function edgeHouse(t: Test, directory: string, options: { clock?: Clock; node?: string } = {}): EdgeHouse {
  const lines: Record<string, unknown>[] = [];
  const to = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
      done();
    },
  });
  const house = makeLocalHouse({
    node: options.node ?? "edge1",
    directory,
    version: "test",
    log: makeLog("edge", { to }),
    clock: options.clock ?? systemClock,
    dataKey: async () => Buffer.alloc(32, 7),
  });
  t.after(() => house.stop());
  return Object.assign(house, { lines });
}

/** A clock that a test sets: the wall clock apart from the monotonic one. */
export class SetClock implements Clock {
  #monotonicMs = 0;
  #wallMs: number;

  constructor(wallMs = Date.UTC(2026, 0, 1)) {
    this.#wallMs = wallMs;
  }

  monotonicMs = (): number => this.#monotonicMs;
  wallMs = (): number => this.#wallMs;
  wallNs = (): bigint => BigInt(this.#wallMs) * 1_000_000n;

  /** Time goes by, for both clocks. */
  pass(ms: number): void {
    this.#monotonicMs += ms;
    this.#wallMs += ms;
  }

  /** The wall clock is set. */
  set(wallMs: number): void {
    this.#wallMs = wallMs;
  }
}

export const callOf = (requestId?: string): Call =>
  makeCall({ caller: "test", timeoutMs: 20_000, ...(requestId ? { requestId } : {}) });

/** Waits until something holds (it may throw until then); fails with what it said last. */
export async function eventually<T>(what: () => T | Promise<T>, timeoutMs = 10_000): Promise<NonNullable<T>> {
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    try {
      const found = await what();
      if (found) return found;
      if (performance.now() > endMs) throw new Error(`it did not come to hold within ${timeoutMs} ms: ${String(what)}`);
    } catch (error) {
      if (performance.now() > endMs) throw error;
    }
    await sleep(2);
  }
}
