/**
 * A process to be tormented: `cloud DIRECTORY SETTINGS` serves a cloud; `node DIRECTORY SETTINGS` appends events and says
 * "a EPOCH LAST" for what its bus has acknowledged. Both answer what `test/houses/tormented.ts` asks over the pipe.
 */
import { writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { seeded } from "../../src/devices/virtual/series.ts";
import { type Clock, systemClock } from "../../src/kernel/clock.ts";
import { nextEpoch } from "../../src/kernel/epoch.ts";
import type { Cloud } from "../../src/services/cloud/api.ts";
import { openRogue, type Manner } from "./rogue.ts";
import type { CloudAnswers, CloudSettings, NodeAnswers, NodeSettings } from "./tormented.ts";
import { call, EDGE, events, startCloud, startNode } from "./uplink.ts";

const [role, directory = "", settings = "{}"] = process.argv.slice(2);
const APPEND_EVENTS_MAX = 30;
const WARNINGS_SHOWN = 8;
/** What was refused is tried again after so long. */
const AGAIN_MS = 50;

/** The wall clock may be set; the monotonic one is nobody's to set. */
let aheadMs = 0;
const clock: Clock = {
  monotonicMs: () => systemClock.monotonicMs(),
  wallMs: () => systemClock.wallMs() + aheadMs,
  wallNs: () => systemClock.wallNs() + BigInt(Math.round(aheadMs)) * 1_000_000n,
};
const common = {
  setClock: async (ms: number) => void (aheadMs = ms),
  keptBytes: async () => {
    (globalThis as { gc?: () => void }).gc!();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  },
};

function answer(answers: Record<string, (of: never) => Promise<unknown>>): void {
  process.on("message", ({ id, ask, of }: { id: number; ask: string; of: unknown }) => {
    void answers[ask](of as never).then(
      (value) => process.send?.({ id, value }),
      (error: unknown) => process.send?.({ id, error: error instanceof Error ? error.message : String(error) }),
    );
  });
  // Whoever started it is gone.
  process.on("disconnect", () => process.exit());
  process.send!({ id: 0 });
}

async function runCloud({ nodeCertificateDays, setMs = 0 }: CloudSettings): Promise<void> {
  aheadMs = setMs;
  let diesAfter = Number.POSITIVE_INFINITY;
  const wrap = (service: Cloud): Cloud => ({
    ...service,
    async accept(...of) {
      const answered = await service.accept(...of);
      // Before the answer has left, or just after it.
      if (--diesAfter <= 0) setTimeout(() => process.kill(process.pid, "SIGKILL"), Math.random() * 3);
      return answered;
    },
  });
  const cloud = await startCloud(directory, { wrap, clock, ...(nodeCertificateDays ? { nodeCertificateDays } : {}) });
  const rogue = await openRogue(cloud.identity);
  const answers: CloudAnswers = {
    ...common,
    ports: async () => ({ cloud: cloud.port, rogue: rogue.port }),
    code: () => cloud.code(),
    audit: async () => (await cloud.audit()).publishers,
    gaps: async () => (await cloud.cli.gaps({ edge: EDGE, limit: 10_000 }, call())).gaps,
    dieAfter: async (accepts) => void (diesAfter = accepts),
    behave: async (manner: Manner) => {
      rogue.manner = manner;
      rogue.askedAtMs.length = 0;
    },
    asked: async () => rogue.askedAtMs,
  };
  answer(answers as never);
}

async function runNode({ seed = 1, pauseMs = 50, pad = 0, config = {} }: NodeSettings): Promise<void> {
  const node = await startNode(directory, config, clock);
  const random = seeded(seed);
  let isWriting = false;
  let refused = 0;
  const answers: NodeAnswers = {
    ...common,
    enroll: async ({ url, code }) => void (await node.enroll(url, code)),
    destination: () => node.destination(),
    async status() {
      const { gaps, losses, position } = await node.pipeline.status({}, call());
      const { last, sizeBytes } = await node.bus.backlog({}, call());
      const { waiting } = await node.destination();
      return { behind: last - position + waiting.batches, busBytes: sizeBytes, gaps: gaps.newest, losses, refused };
    },
    warnings: async () =>
      node.lines
        .filter(({ level }) => Number(level) >= 40 || /warn|error/.test(String(level)))
        .slice(-WARNINGS_SHOWN)
        .map((line) => JSON.stringify(line)),
    write: async (isOn) => void (isWriting = isOn),
  };
  answer(answers as never);
  const epoch = nextEpoch(directory, clock, "publisher");
  const value = (s: number, k: number) => (k < pad ? random() : s);
  for (let last = 0, to = 0; ;) {
    if (!isWriting) {
      await sleep(pauseMs);
      continue;
    }
    if (to === last) to = last + 1 + Math.floor(random() * APPEND_EVENTS_MAX);
    try {
      const options = { epoch, devices: ["a", "b", "c"], resources: Math.max(3, pad), value };
      await node.append("device-a", events("device-a", last + 1, to, options));
      last = to;
      writeSync(1, `a ${epoch} ${last}\n`);
    } catch {
      // As a publisher does: what was not acknowledged comes again, the same.
      refused++;
      await sleep(AGAIN_MS);
    }
    if (pauseMs > 0) await sleep(random() * 2 * pauseMs);
  }
}

await (role === "cloud" ? runCloud : runNode)(JSON.parse(settings) as object);
