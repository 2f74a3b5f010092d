/**
 * Request forensics: what a million stored spans take and how fast one's story is told, how far off the percentiles are, and
 * what a request's log line and span cost, beside OpenTelemetry's auto-instrumentation in the same run.
 */
import { type ChildProcess, execFile, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { Agent, get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { newRequestId, newSpanId } from "../src/kernel/call.ts";
import { makeLog } from "../src/kernel/log.ts";
import { during } from "../src/kernel/during.ts";
import { eventId, publisherTag } from "../src/kernel/events/ids.ts";
import { randomFrom, SpanMaker } from "../src/services/trace/fixture.ts";
import { Sketch } from "../src/services/trace/latency/sketch.ts";
import { openSpanStore, type SpanStore } from "../src/services/trace/store.ts";
import { Stories } from "../src/services/trace/story.ts";
import { report, type Row, rowOf } from "./table.ts";

const SPANS = 1_000_000;
const STORIES = 200;
const NODE = "bench";
const REQUESTS = 8_000;
const ROUNDS = 4;
const CONNECTIONS = 8;
const PACKAGES = { "@opentelemetry/api": "1", "@opentelemetry/auto-instrumentations-node": "0", pino: "10" };
const INSTALL_MS = 180_000;

const directory = mkdtempSync(join(tmpdir(), "holdfast-bench-trace-"));
const rows: Row[] = [];

/** Fills a store, as services ship them; some ids of requests are kept to ask for. */
function fill(store: SpanStore): string[] {
  const maker = new SpanMaker(1, 1_790_000_000_000_000_000n);
  const ids: string[] = [];
  while (store.count < SPANS) {
    const spans = Array.from({ length: 800 }, () => maker.next()).flat();
    store.add(spans, 1);
    ids.push(spans.find(({ requestId }) => requestId !== undefined)!.requestId!);
  }
  return ids;
}

function storage(): void {
  const path = join(directory, "spans.db");
  const options = { path, key: Buffer.alloc(32, 7), log: makeLog("bench", { level: "error", to: 2 }) };
  let store = openSpanStore(options);
  const ids = fill(store);
  const { count } = store;
  store.close();
  rows.push(rowOf(`bytes on the disk per span, of ${count}`, statSync(path).size / count, "bytes", 40));
  store = openSpanStore(options);
  const random = randomFrom(2);
  const asked = [
    ...Array.from({ length: STORIES }, () => ids[random() % ids.length]),
    ...Array.from({ length: STORIES }, () =>
      eventId(publisherTag(NODE, "device-virtual"), 1_900_000_000, 1 + (random() % 1_000_000)),
    ),
  ];
  const times = asked.map((id) => {
    const before = process.cpuUsage();
    if (new Stories(store, NODE).of(id).spans.length === 0) throw new Error(`nothing is known of ${id}`);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1_000;
  });
  times.sort((a, b) => a - b);
  rows.push(rowOf("a story among them, CPU, p50", times[times.length >> 1], "ms", 200));
  rows.push(rowOf("a story among them, CPU, the slowest", times.at(-1)!, "ms", 200));
  const sinceMs = performance.now();
  store.summary(0, 2 ** 40);
  rows.push(rowOf("all of them summed up by operation", performance.now() - sinceMs, "ms", 200));
  store.close();
}

/** The largest error of p50 to p99.9 over durations of several shapes. */
function percentiles(): void {
  const shapes = [(u: number) => u * 1e6, (u: number) => 300 / (1 - u) ** 0.9, (u: number) => 10 ** (u * 9)];
  let worst = 0;
  for (const shape of shapes) {
    const random = randomFrom(3);
    const values = Float64Array.from({ length: 100_000 }, () => Math.round(shape(random() / 2 ** 32))).sort();
    const sketch = new Sketch();
    for (const value of values) sketch.add(value);
    const quantiles = [0.5, 0.9, 0.99, 0.999];
    sketch.quantiles(quantiles).forEach((told, i) => {
      const exact = values[Math.ceil(quantiles[i] * values.length) - 1];
      worst = Math.max(worst, Math.abs(told - exact) / exact);
    });
  }
  rows.push(rowOf("largest error of a percentile", worst * 100, "%", 1));
}

interface Subject {
  readonly child: ChildProcess;
  readonly port: number;
  readonly costs: number[];
}

async function start(script: string, args: readonly string[], execArgv: readonly string[] = []): Promise<Subject> {
  const options = {
    execArgv: ["--no-function-context-cells", ...execArgv],
    stdio: ["ignore", "ignore", "ignore", "ipc"] as const,
  };
  const child = fork(script, args, {
    ...options,
    stdio: [...options.stdio],
    env: {
      ...process.env,
      OTEL_TRACES_EXPORTER: "none",
      OTEL_METRICS_EXPORTER: "none",
      OTEL_LOGS_EXPORTER: "none",
      OTEL_NODE_RESOURCE_DETECTORS: "none",
    },
  });
  const [{ port }] = (await once(child, "message")) as [{ port: number }];
  return { child, port, costs: [] };
}

async function cpuUs({ child }: Subject): Promise<number> {
  child.send("cpu");
  return ((await once(child, "message")) as [{ cpuUs: number }])[0].cpuUs;
}

const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });

async function load({ port }: Subject, count: number): Promise<void> {
  let left = count;
  const one = () =>
    new Promise<void>((resolve, reject) => {
      get({ port, host: "127.0.0.1", path: "/hello", agent }, (answer) => answer.resume().once("end", resolve)).once(
        "error",
        reject,
      );
    });
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      while (left-- > 0) await one();
    }),
  );
}

/** CPU per request of each, in rotation; the least of the rounds, since noise only adds. */
async function measure(subjects: readonly Subject[]): Promise<number[]> {
  for (const subject of subjects) await load(subject, REQUESTS);
  for (let round = 0; round < ROUNDS; round++) {
    for (const subject of subjects) {
      const before = await cpuUs(subject);
      await load(subject, REQUESTS);
      subject.costs.push(((await cpuUs(subject)) - before) / REQUESTS);
    }
  }
  for (const { child } of subjects) child.kill("SIGKILL");
  return subjects.map((subject) => Math.min(...subject.costs));
}

/** What it costs to say which request is worked on: it is done without log and span too. */
async function duringUs(): Promise<number> {
  const count = 200_000;
  const nothing = async () => undefined;
  const step = { requestId: newRequestId(), spanId: newSpanId() };
  const timed = async (work: () => Promise<unknown>) => {
    const before = process.cpuUsage();
    for (let i = 0; i < count; i++) await work();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / count;
  };
  await timed(() => during(step, undefined, nothing));
  return Math.max(0, (await timed(() => during(step, undefined, nothing))) - (await timed(nothing)));
}

/** Installs the peer into the run's own directory; the reason where that cannot be. */
async function install(): Promise<string | undefined> {
  writeFileSync(join(directory, "package.json"), JSON.stringify({ type: "commonjs", dependencies: PACKAGES }));
  writeFileSync(
    join(directory, "peer.js"),
    `const log = require("pino")({}, require("fs").createWriteStream("/dev/null"));
     const server = require("http").createServer((request, response) => {
       response.setHeader("content-type", "application/json");
       response.end('{"hello":"world"}');
       if (process.argv[2] !== "off") log.info({ url: request.url }, "done");
     }).listen(0, "127.0.0.1", () => process.send({ port: server.address().port }));
     process.on("message", () => { const { user, system } = process.cpuUsage(); process.send({ cpuUs: user + system }); });`,
  );
  try {
    await promisify(execFile)("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund"], {
      cwd: directory,
      timeout: INSTALL_MS,
    });
    return undefined;
  } catch {
    return "npm could not install OpenTelemetry: is there a network?";
  }
}

async function costs(): Promise<void> {
  const missing = await install();
  const ours = join(import.meta.dirname, "trace/ours.ts");
  const peer = join(directory, "peer.js");
  const register = ["--require", "@opentelemetry/auto-instrumentations-node/register"];
  process.chdir(directory);
  const subjects = [await start(ours, ["off"]), await start(ours, ["on"])];
  if (missing === undefined) subjects.push(await start(peer, ["off"]), await start(peer, ["on"], register));
  const [off, on, plain, instrumented] = await measure(subjects);
  const cost = on - off + (await duringUs());
  rows.push(rowOf("tracing with a log line, CPU per request", cost, "us", 30));
  const name = "the same against OpenTelemetry's auto-instrumentation";
  if (missing === undefined) rows.push(rowOf(name, cost / (instrumented - plain), "of its cost", 0.25));
  else rows.push({ name, value: null, unit: "of its cost", reach: 0.25, met: null, reason: missing });
}

try {
  storage();
  percentiles();
  await costs();
} finally {
  agent.destroy();
  process.chdir(tmpdir());
  rmSync(directory, { recursive: true, force: true });
}
report("trace", rows);
