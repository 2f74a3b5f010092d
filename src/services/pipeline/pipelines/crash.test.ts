import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { PipelineRig } from "../../../../test/houses/pipelines.ts";
import { DEVICES, PUBLISHER, STATEFUL, valueOf } from "../../../../test/houses/stateful.ts";
import { blocksOf, call, temporary, until } from "../../../../test/houses/uplink.ts";
import { Chain } from "./chain.ts";

const ROUNDS = Number(process.env["HOLDFAST_FAULT_ROUNDS"] ?? 3);
const TIMEOUT_MS = 120_000 + ROUNDS * 15_000;
const program = join(import.meta.dirname, "../../../../test/houses/pipelines.child.ts");

/** Runs the process until it has acknowledged something, and a while longer; answers what it acknowledged. */
async function killed(directory: string, round: number, forMs: number): Promise<number> {
  const child = spawn(process.execPath, [program, directory, String(round)], { stdio: ["ignore", "pipe", "inherit"] });
  const closed = once(child, "close");
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  await until("the process works", () => {
    assert.equal(child.exitCode, null, "it ends by nothing but the kill");
    return output.includes("a ");
  });
  await sleep(forMs);
  child.kill("SIGKILL");
  await closed;
  return Number(/a (\d+)\n[^\n]*$/.exec(output)![1]);
}

/** Readings of the deadband, as one run without a fault gives them. */
function expected(last: number): string[] {
  const chain = new Chain(STATEFUL["deadband"].functions!, { pipeline: "deadband", pseudonymKey: Buffer.alloc(32) });
  const blocks = chain.push(blocksOf(PUBLISHER, 1, last, { devices: DEVICES, value: valueOf }));
  return blocks.flatMap(({ series, sequences, columns }) =>
    sequences.map((sequence, row) => `${series.deviceName} ${sequence} ${String(columns[0][row])}`),
  );
}

test(
  `kill -9 at random moments, ${ROUNDS} times over: what functions with a memory give is given exactly once`,
  { timeout: TIMEOUT_MS },
  async (t) => {
    const directory = temporary(t);
    let acknowledged = 0;
    // From just after the start to well behind a checkpoint and what is due by time.
    for (let round = 1; round <= ROUNDS; round++)
      acknowledged = await killed(directory, round, (round * 1_237) % 4_001);
    const rig = await PipelineRig.open(t, directory);
    rig.start(STATEFUL);
    const { publishers } = await rig.bus.backlog({}, call());
    const last = publishers[0].last;
    assert.ok(last >= acknowledged);
    await until("all is followed", () => rig.isThrough(), 60_000);
    for (const name of ["windows", "deadband"]) await rig.pipelines.remove(name);
    await until("all is told", () => rig.store.pipelines.names.length === 0, 60_000);
    const given = (await rig.batches("deadband")).flatMap(({ content }) =>
      content.flatMap(({ series, sequences, columns }) =>
        sequences.map((sequence, row) => `${series.deviceName} ${sequence} ${String(columns[0][row])}`),
      ),
    );
    assert.deepEqual(given.toSorted(), expected(last).toSorted());
    let [counted, late] = [0, 0];
    for (const { content } of await rig.batches("windows"))
      for (const { series, columns } of content)
        series.resources.forEach(({ name }, k) => {
          if (/count/.test(name)) counted += columns[k].reduce<number>((sum, value) => sum + Number(value), 0);
          else if (name === "r0") late += columns[k].filter((value) => value !== undefined).length;
        });
    assert.equal(counted + late, last, `${counted} in windows and ${late} late`);
  },
);
