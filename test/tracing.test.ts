/** docs/tracing.md, on a whole node: one id through all services and a power cut, and no secret in anything that is written down. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { connect } from "node:tls";
import { join } from "node:path";
import { after, before, test } from "node:test";
import mqtt from "mqtt";
import { type Ask, gatewayDoor } from "./houses/ask.ts";
import { freePort } from "./houses/ports.ts";
import { Whole } from "./houses/whole.ts";

const mqttPort = freePort();
const house = new Whole({ doors: { "bus.mqtts": { port: mqttPort } } });
const DEVICE = "virtual-1";
const THEIRS = "0af7651916cd43dd8448eb211c80319c";
const THEIR_CORRELATION = "11111111-2222-4333-8444-555555555555";
/** What must be found nowhere; each says where it was sent. */
const canary = (where: string): string => `CANARY${where}9c1f7e`;
const CANARY = /CANARY\w*9c1f7e/g;

interface Line {
  readonly service: string;
  readonly requestId?: string;
  readonly operation?: string;
  readonly caller?: string;
  readonly msg?: string;
}
interface Span {
  readonly requestId?: string;
  readonly service: string;
  readonly operation: string;
  readonly device?: string;
  readonly link?: string;
}

let ask: Ask;
let id = "";
before(async () => {
  await house.start();
  ask = await gatewayDoor(house);
  await house.until(
    async () => (await ask("GET", `/core-metadata/api/v3/device/name/${DEVICE}`)).status === 200,
    "a device",
  );
});
after(() => house.remove());

const lines = async (): Promise<Line[]> =>
  (await house.text("logs", "--json", "--lines", "10000"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
const story = (of: string) => house.json<{ requestId: string; spans: Span[] }>("trace", of);

test("one id goes through every service that handles a request, and a client's ids lead to it", async () => {
  const headers = { traceparent: `00-${THEIRS}-b7ad6b7169203331-01`, "x-correlation-id": THEIR_CORRELATION };
  const path = `/core-command/api/v3/device/name/${DEVICE}/Int8?ds-pushevent=true`;
  await house.until(async () => {
    const answer = await ask("GET", path, { headers });
    assert.equal(answer.headers["x-correlation-id"], THEIR_CORRELATION);
    id = String(answer.headers["x-request-id"]);
    return answer.status === 200;
  }, "the command to be answered");
  assert.notEqual(id.replaceAll("-", ""), THEIRS, "nobody outside names our trace");
  const steps = [
    "gateway core-command read",
    "core-command read",
    "device-virtual read",
    "bus append",
    "core-data keep",
    "cloud accept",
  ];
  let told: Span[] = [];
  await house.until(
    async () => {
      told = (await story(id)).spans;
      return steps.every((step) => told.some((s) => `${s.service} ${s.operation}` === step));
    },
    `the steps ${steps.join(", ")}`,
  );
  assert.equal(told.find(({ service }) => service === "device-virtual")?.device, DEVICE);
  for (const theirs of [THEIRS, THEIR_CORRELATION]) {
    const linked = (await story(theirs)).spans;
    assert.ok(
      linked.some(({ requestId, service }) => requestId === id && service === "device-virtual"),
      theirs,
    );
  }
  assert.match(await house.text("trace", THEIRS), /the client calls it .*0af76519-16cd-43dd-8448-eb211c80319c/);
});

test("every log line of every service that handles a request carries its id", async () => {
  let all: Line[] = [];
  const of = (service: string) => all.some((line) => line.requestId === id && line.service === service);
  await house.until(async () => {
    all = await lines();
    return ["gateway", "core-command", "device-virtual"].every(of);
  }, "the lines of the request");
  const handled = all.filter(({ operation, caller }) => operation !== undefined || caller !== undefined);
  assert.ok(handled.length > 20);
  for (const line of handled) assert.match(line.requestId ?? "", /^[0-9a-f-]{36}$/, JSON.stringify(line));
});

test("every command of the page works", async () => {
  const page = readFileSync(join(import.meta.dirname, "../docs/tracing.md"), "utf8");
  const commands = [...page.matchAll(/```sh\n(.*?)```/gs)].flatMap(([, text]) => text.trim().split("\n"));
  assert.ok(commands.length > 7);
  for (const line of commands) {
    const [program, ...words] = line.replace("ID", id).split(" ");
    assert.equal(program, "holdfast");
    await house.text(...words);
  }
  const { spans } = await house.json<{ spans: Span[] }>("spans", "--device", DEVICE, "--service", "core-command");
  assert.ok(spans.some(({ requestId }) => requestId === id));
  const { rows } = await house.json<{ rows: { service: string; count: number; p999Us: number }[] }>("top");
  assert.ok(rows.find(({ service }) => service === "gateway")!.p999Us > 0);
});

test("a secret that is sent in any field of any door is in no log line, no step and no entry of the audit trail", async () => {
  const command = `/core-command/api/v3/device/name/${DEVICE}/Int8`;
  const secret = (where: string) => ({ headers: { authorization: `Bearer ${canary(where)}` } });
  const said: number[] = [];
  const send = async (...question: Parameters<Ask>) => void said.push((await ask(...question)).status);
  await send("GET", command, secret("bearer"));
  await send("GET", command, {
    headers: { authorization: `Basic ${Buffer.from(canary("basic")).toString("base64")}` },
  });
  await send("GET", command, { headers: { "x-api-key": canary("apikey"), authorization: "" } });
  await send("GET", command, { headers: { cookie: `session=${canary("cookie")}`, "x-custom": canary("header") } });
  await send("GET", `${command}?token=${canary("query")}`);
  await send("GET", `/no/such/route?token=${canary("unknownquery")}`);
  await send("GET", command, { headers: { baggage: canary("baggage"), tracestate: `x=${canary("tracestate")}` } });
  await send("GET", command, {
    headers: { "x-request-id": canary("requestid"), "x-correlation-id": canary("correlation") },
  });
  await send("PUT", command, { body: { Int8: canary("value") } });
  await send("PUT", command, { body: canary("notjson") });
  await send("PUT", command, { body: { [canary("key")]: 1, password: canary("password") } });
  await send("POST", "/core-metadata/api/v3/device", { body: [{ device: { description: canary("description") } }] });
  assert.ok(
    said.some((status) => status === 401) && said.some((status) => status >= 400 && status !== 401),
    said.join(),
  );
  await assert.rejects(house.text("token", "--role", canary("role")));
  const refused = mqtt.connectAsync(`mqtts://127.0.0.1:${mqttPort}`, {
    username: canary("user"),
    password: canary("mqttpassword"),
    clientId: canary("client"),
    rejectUnauthorized: false,
    reconnectPeriod: 0,
    connectTimeout: 5_000,
  });
  await assert.rejects(refused);
  // What is no HTTP at all.
  await new Promise<void>((resolve) => {
    const socket = connect({ host: "127.0.0.1", port: house.gatewayPort, rejectUnauthorized: false });
    socket.on("secureConnect", () =>
      socket.end(`${canary("garbage")} / HTTP/9.9\r\n${canary("garbageheader")}\r\n\r\n`),
    );
    socket
      .on("error", () => resolve())
      .on("close", () => resolve())
      .resume();
  });
  const last = String((await ask("GET", command)).headers["x-request-id"]);
  await house.until(async () => (await lines()).some(({ requestId }) => requestId === last), "the last line");
  await house.until(
    async () => (await house.text("trace", last).catch(() => "")).includes("core-command"),
    "the last step",
  );
  const written = {
    logs: await house.text("logs", "--json", "--lines", "10000"),
    spans: await house.text("spans", "--limit", "1000", "--since", "1h", "--json"),
    top: await house.text("top", "--limit", "10000", "--json"),
    audit: await house.text("audit", "search", "--limit", "1000", "--json"),
    console: house.output,
  };
  for (const [where, text] of Object.entries(written)) {
    assert.deepEqual(text.match(CANARY) ?? [], [], where);
    if (where !== "console") assert.ok(text.length > 500, `${where}: ${text}`);
  }
});

test("the story outlives a power cut", async () => {
  const known = (await story(id)).spans.length;
  await house.killSupervisor();
  await house.start();
  await house.until(
    async () => (await story(id).catch(() => ({ spans: [] }))).spans.length >= known,
    "the story to be told",
  );
});
