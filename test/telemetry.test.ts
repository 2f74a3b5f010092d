import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { type Ask, gatewayDoor } from "./houses/ask.ts";
import {
  type Collector,
  type OtlpRecord,
  type OtlpSpan,
  recordsIn,
  spansIn,
  startCollector,
} from "./houses/collector.ts";
import { type Read, readOpenMetrics } from "./houses/openmetrics.ts";
import { Whole } from "./houses/whole.ts";

const ROOT = path.dirname(import.meta.dirname);
const OPENMETRICS = { headers: { accept: "application/openmetrics-text; version=1.0.0" } };
/** Every service tells its metrics every five seconds. */
const TOLD_MS_MAX = 20_000;

let node: Whole;
let ask: Ask;
let collector: Collector;

before(async () => {
  collector = await startCollector();
  const [, example] = /```yaml\n(pipeline:[^`]*)```/.exec(readFileSync(path.join(ROOT, "docs/telemetry.md"), "utf8"))!;
  const pipeline = example
    .replace("https://collector.example:4318", `http://127.0.0.1:${collector.port}`)
    .replace("tracesShare: 0.05", "tracesShare: 1\n      decideAfterMs: 1000")
    .replace("metricsEveryMs: 60000", "metricsEveryMs: 1000");
  node = new Whole({
    entry: path.join(import.meta.dirname, "houses/kit/house.ts"),
    config: `greeter: { greeting: Moin }\n${pipeline}`,
  });
  await node.start();
  ask = await gatewayDoor(node);
});
after(async () => {
  await node.remove();
  collector.close();
});

const scrape = async (): Promise<Read[]> => {
  const { status, text } = await ask("GET", "/metrics", OPENMETRICS);
  assert.equal(status, 200, text);
  return readOpenMetrics(text);
};
const rowsOf = (all: readonly Read[], name: string) => all.find((family) => family.name === name)?.rows ?? [];
const servicesIn = (all: readonly Read[], name = "holdfast_calls_running") =>
  new Set(rowsOf(all, name).map(({ labels }) => labels["service"]));

test("one scrape through the gateway tells the metrics of every service, as OpenMetrics", async () => {
  const { services } = await node.json<{ services: { service: string }[] }>("status");
  let read: Read[] = [];
  await node.until(
    async () => {
      read = await scrape();
      return services.every(({ service }) => servicesIn(read).has(service));
    },
    "every service to tell its metrics",
    TOLD_MS_MAX,
  );
  assert.equal(rowsOf(read, "holdfast_metrics_complete")[0].value, 1);
  for (const { service } of services) {
    const of = (name: string) => rowsOf(read, name).find(({ labels }) => labels["service"] === service);
    assert.ok((of("holdfast_process_resident_memory_bytes")?.value ?? 0) > 10_000_000, service);
    assert.ok((of("holdfast_process_cpu_seconds")?.value ?? 0) > 0, service);
    assert.ok(of("holdfast_event_loop_delay_seconds"), service);
  }
  // Each tells what there was when it told last.
  await node.until(
    async () => {
      read = await scrape();
      const appended = rowsOf(read, "holdfast_journal_appended");
      const lag = rowsOf(read, "holdfast_bus_follower_lag_records");
      return (
        appended.some(({ labels, value }) => labels["journal"] === "bus" && value > 0) &&
        lag.some(({ labels }) => labels["follower"] === "core-data")
      );
    },
    "the bus to tell of its journal and its followers",
    TOLD_MS_MAX,
  );
});

test("a request through the gateway is counted by the service that answered it, with its id as an exemplar", async () => {
  const { headers } = await ask("GET", "/core-metadata/api/v3/device/all");
  const id = String(headers["x-request-id"]).replaceAll("-", "");
  await node.until(
    async () =>
      rowsOf(await scrape(), "holdfast_call_seconds").some(
        ({ labels, exemplar }) => labels["service"] === "core-metadata" && exemplar?.labels["trace_id"] === id,
      ),
    "the exemplar",
    TOLD_MS_MAX,
  );
});

test("who has no token is not told its metrics", async () => {
  const { status, text } = await ask("GET", "/metrics", { headers: { authorization: "Bearer nonsense" } });
  assert.equal(status, 401);
  assert.doesNotMatch(text, /holdfast_/);
});

test("docs/metrics.md lists every metric that there is, and no other", async () => {
  const rows = (await scrape())
    .filter(({ name }) => name.startsWith("holdfast_"))
    .map(({ name, type, help }) => {
      const suffix = type === "counter" ? "_total" : type === "info" ? "_info" : "";
      return `| \`${name}${suffix}\` | ${type} | ${help} |`;
    })
    .sort();
  const page = path.join(ROOT, "docs/metrics.md");
  const text = readFileSync(page, "utf8");
  const [start, end] = ["<!-- every metric -->\n", "\n<!-- end -->"];
  const at = text.indexOf(start) + start.length;
  const table = ["", "| metric | type | what it is |", "|---|---|---|", ...rows, ""].join("\n");
  const whole = text.slice(0, at) + table + text.slice(text.indexOf(end));
  if (process.env["HOLDFAST_WRITE_DOCS"]) writeFileSync(page, whole);
  assert.equal(
    readFileSync(page, "utf8"),
    whole,
    "make it anew: HOLDFAST_WRITE_DOCS=1 bin/node --test test/telemetry.test.ts",
  );
});

test("a service of a few lines has a route, config, request ids in its log and in the story, metrics, and a place", async () => {
  const { status, body, headers } = await ask("GET", "/greeter/api/v3/greet/Ada");
  assert.deepEqual([status, body["text"]], [200, "Moin, Ada!"]);
  const id = String(headers["x-request-id"]);
  const { status: refused } = await ask("GET", `/greeter/api/v3/greet/${"a".repeat(101)}`);
  assert.equal(refused, 400);
  const { services } = await node.json<{ services: { service: string; state: string }[] }>("status");
  assert.equal(services.find(({ service }) => service === "greeter")?.state, "passing");
  await node.until(
    async () => (await node.text("logs", "--service", "greeter")).includes(id),
    "the log line with the request id",
    TOLD_MS_MAX,
  );
  await node.until(
    async () => (await ask("GET", `/trace/story/${id}`)).text.includes('"greeter"'),
    "the story of the request",
    TOLD_MS_MAX,
  );
  await node.until(
    async () => (rowsOf(await scrape(), "greeter_greetings")[0]?.value ?? 0) >= 1,
    "its own metric",
    TOLD_MS_MAX,
  );
});

test("the spans of a service that speaks OpenTelemetry's API are steps of the request's story, below its own", async () => {
  const { status, body, headers } = await ask("GET", "/prover/api/v3/factors/7919");
  assert.deepEqual([status, body["factors"]], [200, [7919]]);
  const id = String(headers["x-request-id"]);
  interface Step {
    readonly service: string;
    readonly operation: string;
    readonly spanId: string;
    readonly parentId?: string;
    readonly note?: string;
  }
  const stepsOf = async () => ((await ask("GET", `/trace/story/${id}`)).body["spans"] ?? []) as Step[];
  let steps: Step[] = [];
  await node.until(
    async () => (steps = await stepsOf()).filter(({ service }) => service === "prover").length === 2,
    "the steps of the service",
    TOLD_MS_MAX,
  );
  const [divide, factors] = ["divide", "factors"].map((name) => steps.find(({ operation }) => operation === name)!);
  assert.equal(divide.parentId, factors.spanId);
  assert.equal(divide.note, "it is prime; factors=1");
});

test("a device service of a few lines is read by the clock, and by commands that set what it does", async () => {
  const setpoint = "/core-command/api/v3/device/name/boiler-1/Setpoint";
  assert.equal((await ask("PUT", setpoint, { body: { Setpoint: "25.5" } })).status, 200);
  const { body } = await ask("GET", setpoint);
  const { readings } = body["event"] as { readings: { value: string }[] };
  assert.equal(Number(readings[0].value), 25.5);
  assert.equal((await ask("PUT", setpoint, { body: { Setpoint: "95" } })).status, 400, "above the profile's maximum");
  await node.until(
    async () => {
      const kept = await ask("GET", "/core-data/api/v3/reading/device/name/boiler-1/resourceName/Temperature?limit=1");
      return ((kept.body["readings"] as unknown[] | undefined) ?? []).length === 1;
    },
    "a reading in core-data",
    TOLD_MS_MAX,
  );
});

test("docs/developing.md shows the examples as they are", () => {
  const page = readFileSync(path.join(ROOT, "docs/developing.md"), "utf8");
  for (const example of ["greeter", "prover", "device-boiler"]) {
    const [, ...lines] = readFileSync(path.join(ROOT, "examples", example, "main.ts"), "utf8")
      .trim()
      .split("\n");
    assert.ok(page.includes(lines.join("\n")), example);
  }
});

/** The spans that the collector has of a trace. */
const spansOf = (traceId: string): OtlpSpan[] =>
  collector.taken
    .flatMap(({ request }) => spansIn(request))
    .filter((span) => Buffer.from(span.traceId, "base64").toString("hex") === traceId);

/** The log records that the collector has of a trace. */
const recordsOf = (traceId: string): OtlpRecord[] =>
  collector.taken
    .flatMap(({ request }) => recordsIn(request))
    .filter((record) => Buffer.from(record.traceId ?? "", "base64").toString("hex") === traceId);

test("by OTLP a collector gets metrics, spans and log lines; while it is away they wait in the outbox, and come once", async () => {
  await node.until(
    () =>
      collector.taken.some(
        ({ path: of, request }) => of === "/v1/metrics" && JSON.stringify(request).includes("greeter_greetings"),
      ),
    "metrics at the collector",
    2 * TOLD_MS_MAX,
  );
  collector.refuse = (response) => Boolean(response.writeHead(503, { "retry-after": "1" }).end());
  const { asked } = collector;
  const { headers } = await ask("GET", "/greeter/api/v3/greet/Offline");
  const traceId = String(headers["x-request-id"]).replaceAll("-", "");
  await node.until(() => collector.asked > asked + 1, "the collector to be asked again", 2 * TOLD_MS_MAX);
  assert.deepEqual(spansOf(traceId), []);
  collector.refuse = () => false;
  await node.until(() => spansOf(traceId).length >= 2, "the spans of the request", 2 * TOLD_MS_MAX);
  const spans = spansOf(traceId);
  assert.equal(new Set(spans.map((span) => span.spanId)).size, spans.length, "none came twice");
  const [root] = spans.filter((span) => span.parentSpanId === undefined);
  const greet = spans.find((span) => span.name === "greet" && span.parentSpanId === root.spanId);
  assert.ok(greet);
  const greeted = () => recordsOf(traceId).filter(({ body }) => body.stringValue === "somebody was greeted");
  await node.until(() => greeted().length > 0, "the log line of the request", 2 * TOLD_MS_MAX);
  assert.deepEqual(
    greeted().map(({ spanId }) => spanId),
    [greet.spanId],
  );
});
