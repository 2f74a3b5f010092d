import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { call, startCloud, startNode, temporary, until, Wire } from "../../../test/houses/uplink.ts";

const ROUNDS = Number(process.env["HOLDFAST_FAULT_ROUNDS"] ?? 3);
/** A round takes under 3 s on a machine that does nothing else. */
const TIMEOUT_MS = 120_000 + ROUNDS * 15_000;
const program = join(import.meta.dirname, "..", "..", "..", "test", "houses", "uplink.child.ts");

/** Pseudo-random numbers from 0 to below 1, the same each time. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return state / 2 ** 31;
  };
}

interface Child {
  readonly process: ChildProcess;
  readonly lines: string[];
  said(line: RegExp): Promise<RegExpExecArray>;
  kill(): Promise<void>;
}

function start(...of: string[]): Child {
  const child = spawn(process.execPath, [program, ...of], { stdio: ["ignore", "pipe", "inherit", "ipc"] });
  const lines: string[] = [];
  let rest = "";
  child.stdout!.on("data", (chunk: Buffer) => {
    const parts = (rest + chunk.toString()).split("\n");
    rest = parts.pop() ?? "";
    lines.push(...parts);
  });
  const closed = once(child, "close");
  return {
    process: child,
    lines,
    async said(line) {
      let found: RegExpExecArray | undefined;
      await until(
        `a process says ${String(line)}`,
        () => {
          assert.equal(child.exitCode, null, "it ends by nothing but the kill");
          for (const one of lines) found ??= line.exec(one) ?? undefined;
          return found !== undefined;
        },
        30_000,
      );
      return found!;
    },
    async kill() {
      child.kill("SIGKILL");
      await closed;
    },
  };
}

async function startCloudChild(directory: string, wire: Wire): Promise<Child> {
  const cloud = start("cloud", directory);
  wire.to = Number((await cloud.said(/^port (\d+)$/))[1]);
  return cloud;
}

test(
  `kill -9 of node and cloud at random moments, ${ROUNDS} times over: the cloud has every acknowledged event, once and in order`,
  { timeout: TIMEOUT_MS },
  async (t) => {
    const directory = temporary(t);
    const [nodeDirectory, cloudDirectory] = [join(directory, "node"), join(directory, "cloud")];
    const wire = await Wire.open(0);
    t.after(() => wire.close());
    const random = seeded(4_711);
    const acknowledged = new Map<number, number>();
    let cloud = await startCloudChild(cloudDirectory, wire);
    t.after(() => cloud.kill());
    for (let round = 1; round <= ROUNDS; round++) {
      const node = start("node", nodeDirectory, wire.url, String(round));
      node.process.on("message", () => {
        cloud.process.once("message", (code) => node.process.send(code));
        cloud.process.send({ want: "code" });
      });
      await node.said(/^a /);
      await sleep(random() * 400);
      if (random() < 0.5) {
        await cloud.kill();
        await sleep(random() * 200);
        cloud = await startCloudChild(cloudDirectory, wire);
        await sleep(random() * 300);
      }
      await node.kill();
      for (const line of node.lines) {
        const said = /^a (\d+) (\d+)$/.exec(line);
        if (said) acknowledged.set(Number(said[1]), Number(said[2]));
      }
    }
    await cloud.kill();
    assert.equal(acknowledged.size, ROUNDS);
    const last = await startCloud(cloudDirectory);
    t.after(() => last.stop());
    wire.to = last.port;
    const node = await startNode(nodeDirectory);
    t.after(() => node.stop());
    const { last: end } = await node.bus.backlog({}, call());
    await until(
      "all is sent",
      async () => {
        const { position, destinations } = await node.pipeline.status({}, call());
        return position >= end && destinations[0].waiting.batches === 0;
      },
      60_000,
    );
    const { publishers } = await last.audit();
    for (const [epoch, through] of acknowledged) {
      const found = publishers.find((p) => p.epoch === epoch);
      assert.ok(found, `epoch ${epoch} is there`);
      assert.deepEqual(
        [found.duplicates, found.outOfOrder, found.ranges.length, found.ranges[0].from],
        [0, 0, 1, 1],
        JSON.stringify(found),
      );
      assert.ok(
        found.ranges[0].to >= through,
        `all ${through} events of epoch ${epoch}, not only ${found.ranges[0].to}`,
      );
      assert.equal(found.readings, found.events * 3);
    }
    const { acknowledged: told } = await node.destination();
    assert.equal(
      told.events,
      publishers.reduce((sum, p) => sum + p.events, 0),
      "the node knows how much that is",
    );
  },
);
