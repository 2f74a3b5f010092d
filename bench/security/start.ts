/** What confinement adds to the start of a process: the same Node, the same program of one line, plain and confined in turn. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launcherFile } from "../../src/node/confine/launcher.ts";
import { archOf } from "../../src/node/confine/libc.ts";
import { confinementOf } from "../../src/node/confine/plan.ts";
import { mountWayOf, spawnConfined } from "../../src/node/confine/spawn.ts";
import { kernelOf } from "../../src/node/confine/steps.ts";
import { maySwitchUser } from "../../src/node/confine/facts.ts";
import { uidOf } from "../../src/node/confine/uids.ts";
import { info, median, type Row, rowOf } from "../table.ts";

const ROUNDS = 15;
const REACH_MS = 150;

/** Measures to the end of the process; the walls are all that the machine gives. */
export async function measureStart(): Promise<Row[]> {
  const place = mkdtempSync(join(tmpdir(), "holdfast-bench-start-"));
  try {
    // Another uid goes through it.
    chmodSync(place, 0o755);
    const [launcherPath, script] = [join(place, "launcher"), join(place, "program.cjs")];
    writeFileSync(launcherPath, launcherFile(archOf()), { mode: 0o755 });
    writeFileSync(script, "process.exitCode = 0;\n");
    const kernel = { ...kernelOf(), mounts: await mountWayOf(launcherPath) };
    const identity = maySwitchUser() && process.geteuid?.() === 0 ? uidOf(99) : {};
    const shared = { service: "bench", nodePath: process.execPath, script, codeDirs: [place], connectPorts: [443] };
    const plan = confinementOf({ ...shared, ...identity });
    const starts = {
      plain: () => spawn(process.execPath, [script], { env: {}, cwd: "/", stdio: "ignore" }),
      confined: () => spawnConfined({ plan, stdio: ["ignore", "ignore", "ignore"], launcherPath, kernel }),
    };
    const times = { plain: [] as number[], confined: [] as number[] };
    for (let round = 0; round <= ROUNDS; round++)
      for (const kind of ["plain", "confined"] as const) {
        const startMs = performance.now();
        const [status] = (await once(starts[kind](), "exit")) as [number | null];
        if (status !== 0) throw new Error(`the ${kind} process ended with ${status}`);
        // The first of each finds nothing in the machine's caches.
        if (round > 0) times[kind].push(performance.now() - startMs);
      }
    const value = median(times.confined) - median(times.plain);
    return [
      rowOf("start of a confined process over a plain one, median", value, "ms", REACH_MS),
      info("  the plain one", median(times.plain), "ms"),
    ];
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}
