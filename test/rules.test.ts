/** Local rules on a node of real services, which has no cloud: a reading comes in, and a device is commanded. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { main as virtualMain } from "../src/devices/virtual/main.ts";
import { newRequestId } from "../src/kernel/call.ts";
import { BlockBuilder } from "../src/kernel/events/blocks.ts";
import { encodeBlocks } from "../src/kernel/events/codec.ts";
import type { Series } from "../src/kernel/events/model.ts";
import { parseJson } from "../src/kernel/json.ts";
import { bus } from "../src/services/bus/api.ts";
import { main as busMain } from "../src/services/bus/main.ts";
import { coreCommand } from "../src/services/core-command/api.ts";
import { main as commandMain } from "../src/services/core-command/main.ts";
import { main as dataMain } from "../src/services/core-data/main.ts";
import { coreMetadata } from "../src/services/core-metadata/api.ts";
import { main as metadataMain } from "../src/services/core-metadata/main.ts";
import { pipeline } from "../src/services/pipeline/api.ts";
import { main as pipelineMain } from "../src/services/pipeline/main.ts";
import { callOf, edgeHouse, eventually, temporary } from "./houses/edge.ts";

const OVEN: Series = {
  deviceName: "oven-1",
  profileName: "Oven",
  sourceName: "Temperature",
  resources: [
    {
      name: "Temperature",
      valueType: "Float64",
    },
  ],
};
const FAN = { deviceName: "virtual-1", commandName: "Int32" };

/** A node with device-virtual, and an oven whose readings the test sends. */
async function start(t: Parameters<typeof edgeHouse>[0]) {
  const house = edgeHouse(t, temporary(t));
  await house.start(busMain);
  await house.start(metadataMain);
  await house.start(dataMain);
  await house.start(virtualMain, { interval: "1h" });
  const command = await house.start(commandMain);
  const of = await house.start(pipelineMain);
  const metadata = house.connect(coreMetadata, "gateway");
  await eventually(() => metadata.deviceByName({ name: "virtual-1" }, callOf()));
  const commands = house.connect(coreCommand, "gateway");
  const oven = house.connect(bus, "device-oven");
  const pipelines = house.connect(pipeline, "gateway");
  let sequence = 0;
  return {
    house,
    pipelines,
    spans: { command: command.tracer, pipeline: of.tracer },
    setRule: async (name: string, rule: Record<string, unknown>) => pipelines.setRule({ name, body: rule }, callOf()),
    rule: async () => (await pipelines.rules({}, callOf())).rules[0],
    send: async (value: number, requestId?: string) => {
      const builder = new BlockBuilder({ publisher: { name: "device-oven", epoch: 1 } });
      builder.add(OVEN, ++sequence, BigInt(Date.now()) * 1_000_000n, [value], requestId ? { requestId } : undefined);
      await oven.append({ body: { blocks: encodeBlocks(builder.blocks()) } }, callOf());
    },
    fan: async () => {
      const input = { name: "virtual-1", command: "Int32", pushEvent: false, returnEvent: true, regexCmd: true };
      return (await commands.read(input, callOf())).event?.readings[0].value;
    },
  };
}

test("a reading over its limit commands a device though there is no cloud; one request id tells the story of both", async (t) => {
  const { fan, pipelines, rule, send, setRule, spans } = await start(t);
  assert.equal((await pipelines.status({}, callOf())).destinations[0].state, "not-enrolled");
  await setRule("hot", {
    resource: "Temperature",
    when: { above: 80 },
    command: { ...FAN, settings: { Int32: "100" } },
  });
  // Rules look at what comes after they began to.
  await eventually(async () => {
    await send(20);
    await send(85);
    return (await rule()).fired > 0;
  });
  await eventually(async () => (await fan()) === "100");
  spans.pipeline.take();
  spans.command.take();
  const requestId = newRequestId();
  await send(20);
  await send(90, requestId);
  const step = await eventually(() => spans.pipeline.take().find((span) => span.operation === "rule"));
  assert.equal(step.requestId, requestId, "the reading's");
  const [range] = step.ranges!;
  assert.ok(range.publisher === "device-oven" && range.from === range.to);
  assert.deepEqual([step.status, step.note], [0, "rule 'hot'"]);
  const { active, fired, failed } = await rule();
  assert.deepEqual([active, failed], [1, 0]);
  assert.ok(fired >= 2);
});

test("a device has its command at once after the reading, and not with the next batch", async (t) => {
  const { fan, rule, send, setRule, spans } = await start(t);
  await setRule("hot", { resource: "Temperature", when: { above: 80 }, command: { ...FAN, settings: { Int32: 7 } } });
  await eventually(async () => {
    await send(20);
    await send(85);
    return (await rule()).fired > 0;
  });
  assert.ok(await fan());
  const tookMs: number[] = [];
  for (let n = 0; n < 200; n++) {
    await send(20);
    spans.pipeline.take();
    const startMs = performance.now();
    await send(90);
    // The step ends when the device has done what it was told.
    while (!spans.pipeline.take().some(({ operation }) => operation === "rule")) await new Promise(setImmediate);
    tookMs.push(performance.now() - startMs);
  }
  const [p50, p99] = [99, 197].map((at) => tookMs.toSorted((a, b) => a - b)[at]);
  t.diagnostic(`p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`);
  // Others use the machine too while tests run; the bench holds the figure of 20 ms. A batch would wait for 500 ms.
  assert.ok(p50 < 100, `${p50.toFixed(1)} ms`);
});

test("a notification is kept on the bus in EdgeX's shape, for whoever delivers it, and whoever listens has it at once", async (t) => {
  const { house, send, setRule } = await start(t);
  const heard: unknown[] = [];
  const listening = new AbortController();
  const listen = async () => {
    const stream = house.connect(bus, "support-notifications").listen(
      { topics: ["edgex/notifications/#"] },
      {
        ...callOf(),
        signal: listening.signal,
        caller: "support-notifications",
      },
    );
    for await (const message of stream) heard.push(message);
  };
  const done = listen().catch(() => undefined);
  await setRule("hot", {
    devices: ["oven-1"],
    resource: "Temperature",
    when: {
      above: 80,
      hysteresis: 5,
    },
    notification: {
      category: "overheat",
      severity: "CRITICAL",
      content: "{device} has {value}",
      labels: ["hall-2"],
    },
  });
  const requestId = newRequestId();
  await eventually(async () => {
    await send(20);
    await send(85.5, requestId);
    return heard.length > 0;
  });
  listening.abort();
  await done;
  const { topic, payload, position } = heard[0] as { topic: string; payload: Uint8Array; position: number };
  assert.equal(topic, "edgex/notifications/pipeline/overheat");
  assert.ok(position > 0, "it is on the disk");
  const envelope = parseJson(Buffer.from(payload).toString()) as Record<string, Record<string, unknown>>;
  assert.equal(envelope["correlationID"], requestId);
  const { id, created, ...notification } = envelope["payload"]["notification"] as Record<string, unknown>;
  assert.ok(/^[0-9a-f-]{36}$/.test(String(id)) && Number(created) > 0);
  assert.deepEqual(notification, {
    apiVersion: "v3",
    category: "overheat",
    labels: ["hall-2"],
    content: "oven-1 has 85.5",
    contentType: "text/plain",
    description: "rule 'hot'",
    sender: "pipeline",
    severity: "CRITICAL",
    status: "NEW",
  });
});

test("a command that fails is told with its reason, and is not given again; a rule that does nothing is refused", async (t) => {
  const { pipelines, rule, send, setRule } = await start(t);
  const command = { deviceName: "nobody", commandName: "Speed", settings: { Speed: 1 } };
  await setRule("hot", { resource: "Temperature", when: { above: 80 }, command });
  await eventually(async () => {
    await send(20);
    await send(85);
    return (await rule()).failed > 0;
  });
  assert.match((await rule()).lastFault!, /device 'nobody' does not exist/);
  await eventually(async () => (await rule()).fired === (await rule()).failed);
  await assert.rejects(setRule("idle", { resource: "T", when: { above: 1 } }), { code: "PIPELINE_RULE_INVALID" });
  await assert.rejects(setRule("odd", { resource: "T", when: { over: 1 }, command }), { code: "CONFIG_KEY_UNKNOWN" });
  await pipelines.removeRule({ name: "hot" }, callOf());
  await assert.rejects(pipelines.removeRule({ name: "hot" }, callOf()), { code: "PIPELINE_UNKNOWN" });
  assert.deepEqual((await pipelines.rules({}, callOf())).rules, []);
});
