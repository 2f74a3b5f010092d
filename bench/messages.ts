/**
 * Messages: what a reading costs on the bus beside EdgeX's envelope for the same event (payloads: the heads of HTTP and the topics of
 * MQTT are left out), and what an answer between services costs beside JSON, with the names of its fields and with numbers for them.
 */
import { Agent } from "node:http";
import type { Socket } from "node:net";
import { makeCall, newRequestId } from "../src/kernel/call.ts";
import { decodeCbor, encodeCbor } from "../src/kernel/cbor.ts";
import { systemClock } from "../src/kernel/clock.ts";
import { connect } from "../src/kernel/connect.ts";
import { contract, digestOf } from "../src/kernel/contract.ts";
import { deviceService } from "../src/devices/sdk/api.ts";
import { makeLog } from "../src/kernel/log.ts";
import { termsOf } from "../src/kernel/names.ts";
import { serve } from "../src/kernel/serve.ts";
import { Tracer } from "../src/kernel/trace.ts";
import { CBOR_TYPE, JSON_TYPE } from "../src/kernel/wire.ts";
import { BlockBuilder } from "../src/kernel/events/blocks.ts";
import { encodeBlocks } from "../src/kernel/events/codec.ts";
import { rowToEvent } from "../src/kernel/events/edgex.ts";
import { publisherTag } from "../src/kernel/events/ids.ts";
import type { Block, Series, Value } from "../src/kernel/events/model.ts";
import { parseJson, stringifyJson } from "../src/kernel/json.ts";
import { seeded } from "../src/devices/virtual/series.ts";
import { info, report, type Row, rowOf } from "./table.ts";

const RESOURCES = 10;
const FIRST_NS = 1_700_000_000_000_000_000n;
const SECOND_NS = 1_000_000_000n;
const ROUNDS = 20_000;
const WARM_ROUNDS = 5_000;
const publisher = { name: "device-pump", epoch: 1_700_000_000 };
const tag = publisherTag("edge1", publisher.name);

/** A pump's ten channels with a decimal or two, walking. */
function blocksOf(events: number): readonly Block[] {
  const random = seeded(7);
  const resources = Array.from({ length: RESOURCES }, (_, k) => ({
    name: `Channel${k + 1}`,
    valueType: "Float64" as const,
  }));
  const names = { deviceName: "pump-house-7", profileName: "Pump-Profile", sourceName: "AllChannels" };
  const series: Series = { ...names, resources };
  const builder = new BlockBuilder({ publisher });
  const now = resources.map(() => 20 + Math.round(random() * 600) / 10);
  for (let n = 1; n <= events; n++) {
    for (const k of now.keys()) now[k] = Math.round((now[k] + random() - 0.5) * 100) / 100;
    builder.add(
      series,
      n,
      FIRST_NS + BigInt(n) * SECOND_NS,
      now.map((value): Value => value),
    );
  }
  return builder.blocks();
}

/** As EdgeX's device services write each event: the envelope in JSON with the request as its payload. */
function envelopeBytes(blocks: readonly Block[]): number {
  let bytes = 0;
  for (const block of blocks)
    for (const row of block.sequences.keys()) {
      const requestId = newRequestId();
      const payload = { apiVersion: "v3", requestId, event: rowToEvent(block, row, tag) };
      const { correlationID, ...rest } = { correlationID: requestId, apiVersion: "v3", receivedTopic: "" };
      const told = { ...rest, correlationID, requestID: "", errorCode: 0, payload, contentType: "application/json" };
      bytes += Buffer.byteLength(stringifyJson(told));
    }
  return bytes;
}

/** CPU of one turn of a piece of work, in microseconds. */
function cpuUs(work: () => unknown): number {
  for (let n = 0; n < WARM_ROUNDS; n++) work();
  const before = process.cpuUsage();
  for (let n = 0; n < ROUNDS; n++) work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / ROUNDS;
}

/** As every device service has it; without certificates the bench is the command line. */
const { operations } = deviceService("device-pump");
const device = contract("device-pump", { read: { ...operations.read, callers: ["cli"] } }, { edgex: true });

/** The bytes on the wire, heads and all, of one call that asks a device for its readings. */
async function calls(): Promise<Row[]> {
  const [block] = blocksOf(1);
  const { readings, ...of } = rowToEvent(block, 0, tag);
  const event = { ...of, readings } as never;
  const quiet = makeLog("bench", { to: { write: () => undefined } });
  const tracer = new Tracer("device-pump", systemClock);
  const told = { contract: device, log: quiet, clock: systemClock, tracer, plainCaller: "cli" as const };
  const served = await serve({
    ...told,
    service: { read: async () => ({ event }) },
    listen: { host: "127.0.0.1", port: 0 },
    instance: "device-pump-1234-abcdef",
  });
  const bytes: number[] = [];
  for (const [encoding, digest] of [
    [JSON_TYPE, undefined],
    [CBOR_TYPE, undefined],
    [CBOR_TYPE, digestOf(device)],
  ] as const) {
    const agent = new Agent({ keepAlive: true });
    const freed = new Promise<number>((resolve) =>
      agent.on("free", (socket: Socket) => resolve(socket.bytesRead + socket.bytesWritten)),
    );
    const target = { instance: "device-pump-1234-abcdef", host: served.host, port: served.port, agent, secure: false };
    const resolver = { pick: () => ({ ...target, digest }), failed: () => undefined };
    const call = makeCall({ caller: "cli", timeoutMs: 5_000 });
    await connect(device, { resolver, encoding }).read(
      { deviceName: "pump-house-7", command: "AllChannels", pushEvent: false, returnEvent: true, regexCmd: true },
      call,
    );
    call.end(false);
    bytes.push(await freed);
    agent.destroy();
  }
  await served.close();
  const [json, cbor, terse] = bytes;
  return [
    info("a call to a device, heads and all, in JSON", json, "bytes"),
    info("the same in CBOR with names, of JSON's bytes", cbor / json, "x JSON"),
    info("the same with numbers for names, of JSON's bytes", terse / json, "x JSON"),
  ];
}

const rows: Row[] = [];
for (const events of [1, 10, 100]) {
  const blocks = blocksOf(events);
  const own = encodeCbor({ blocks: encodeBlocks(blocks), requestId: newRequestId() }).length;
  const theirs = envelopeBytes(blocks);
  const readings = events * RESOURCES;
  const name = `${events} event${events === 1 ? "" : "s"} of ${RESOURCES} readings at once`;
  rows.push(info(`${name}: our bytes a reading`, own / readings, "bytes"));
  rows.push(rowOf(`${name}: bus bytes, of EdgeX's envelope`, own / theirs, "x EdgeX", 0.25));
}
const [block] = blocksOf(1);
const answer = { apiVersion: "v3", statusCode: 200, event: rowToEvent(block, 0, tag) };
const json = Buffer.from(stringifyJson(answer));
const cbor = encodeCbor(answer);
const { answer: names } = termsOf(device, device.operations.read);
const terse = encodeCbor(answer, names.ids);
rows.push(info("a device's answer: CBOR's bytes, of JSON's", cbor.length / json.length, "x JSON"));
rows.push(
  info("a device's answer: CBOR's bytes with numbers for names, of JSON's", terse.length / json.length, "x JSON"),
);
const inJson = cpuUs(() => parseJson(Buffer.from(stringifyJson(answer))));
const inCbor = cpuUs(() => decodeCbor(encodeCbor(answer)));
rows.push(info("a device's answer: written and read as JSON", inJson, "us"));
rows.push(info("a device's answer: written and read as CBOR, of JSON's CPU", inCbor / inJson, "x JSON"));
const inTerse = cpuUs(() => decodeCbor(encodeCbor(answer, names.ids), { names: names.list }));
rows.push(info("a device's answer: the same with numbers for names, of JSON's CPU", inTerse / inJson, "x JSON"));
const keys = JSON.stringify(answer, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value)).match(
  /"\w+":/g,
)!;
const keyBytes = keys.reduce((sum, key) => sum + key.length - 2, 0);
rows.push(info("a device's answer: share of the CBOR that is names of fields", keyBytes / cbor.length, "of CBOR"));
rows.push(...(await calls()));
report("messages", rows);
