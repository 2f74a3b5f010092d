/** docs/operating.md, "Restarting": a whole node under load, every service of which is replaced while it is asked. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Load } from "./houses/load.ts";
import { Whole } from "./houses/whole.ts";

/** Requests a second: a sample in tests, what issue 6 names in the soak. */
const RATE = Number(process.env["HOLDFAST_RESTART_RATE"] ?? 40);
const isSoak = RATE > 100;
/** On a machine that gives nobody a turn for so long, deadlines pass by themselves. */
const STALLED_MS = 750;

const house = new Whole({
  args: isSoak ? [] : ["--only", "trace,bus,core-metadata,core-data,core-command,device-virtual,gateway"],
  config:
    "gateway: { addressRequestsPerS: 100000, addressBurst: 100000, tokenRequestsPerS: 100000, tokenBurst: 100000 }\n",
});
const page = readFileSync(join(import.meta.dirname, "../docs/operating.md"), "utf8");
const section = /^## Restarting.*?^## /ms.exec(page)?.[0] ?? "";
let token = "";

before(
  async () => {
    await house.start();
    token = (await house.json<{ token: string }>("token", "--role", "operator")).token;
  },
  { timeout: 120_000 },
);
after(() => house.remove());

interface Restarted {
  readonly restarted: readonly { readonly service: string; readonly pid: number; readonly ms: number }[];
}

/** What only reads, what reads a device, and what is never sent twice. */
const ASKS = [
  { method: "GET", path: "/core-data/api/v3/reading/device/name/virtual-1?limit=5" },
  { method: "GET", path: "/core-metadata/api/v3/device/name/virtual-1" },
  { method: "GET", path: "/core-command/api/v3/device/name/virtual-1/Int8" },
  { method: "PUT", path: "/core-command/api/v3/device/name/virtual-1/Int8", body: '{"Int8":"7"}' },
] as const;

const loaded = () => new Load({ port: house.gatewayPort, token, ratePerS: RATE, asks: ASKS });

test("each command of the page works, and every service is replaced at a load without a failed request", async (t) => {
  const commands = [...section.matchAll(/```sh\n(.*?)```/gs)]
    .flatMap(([, text]) => text.trim().split("\n"))
    .map((line) => line.replace(/ *#.*$/, ""));
  assert.ok(commands.includes("holdfast restart --all"), section);
  const old = await house.pids();
  const load = loaded();
  let told: Restarted = { restarted: [] };
  try {
    for (const command of commands) {
      const words = command.split(" ").slice(1);
      told = await house.json<Restarted>(...words);
    }
  } finally {
    await load.stop();
  }
  const now = await house.pids();
  assert.deepEqual([...now.keys()].sort(), [...old.keys()].sort());
  for (const [service, pid] of now) assert.notEqual(pid, old.get(service), service);
  assert.deepEqual(told.restarted.map(({ service }) => service).sort(), [...old.keys()].sort());
  for (const { service, pid } of told.restarted) assert.equal(pid, now.get(service));
  const { sent, shed, slowestMs, stalledMs } = load;
  t.diagnostic(JSON.stringify({ sent, shed, slowestMs, stalledMs, ...told }));
  // What was begun is answered all the same, and in words.
  const failures = load.failures.filter(([what]) => stalledMs < STALLED_MS || !/^50[34] |no answer in time/.test(what));
  assert.deepEqual(failures, []);
  assert.ok(load.sent > RATE);
});

test("what has no such name is refused, and nothing is restarted", async () => {
  const old = await house.pids();
  await assert.rejects(house.text("restart", "core-dat"), /NODE_SERVICE_UNKNOWN/);
  await assert.rejects(house.text("restart"), /NODE_OPTION_INVALID/);
  assert.deepEqual(await house.pids(), old);
});
