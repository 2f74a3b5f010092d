/**
 * Messages: what a reading costs on the bus beside EdgeX's envelope for the same event (payloads: the heads of HTTP and the topics of
 * MQTT are left out), and what an answer between services costs beside JSON.
 */
import { newRequestId } from "../src/kernel/call.ts";
import { decodeCbor, encodeCbor } from "../src/kernel/cbor.ts";
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
rows.push(info("a device's answer: CBOR's bytes, of JSON's", cbor.length / json.length, "x JSON"));
const inJson = cpuUs(() => parseJson(Buffer.from(stringifyJson(answer))));
const inCbor = cpuUs(() => decodeCbor(encodeCbor(answer)));
rows.push(info("a device's answer: written and read as JSON", inJson, "us"));
rows.push(info("a device's answer: written and read as CBOR, of JSON's CPU", inCbor / inJson, "x JSON"));
const keys = JSON.stringify(answer, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value)).match(
  /"\w+":/g,
)!;
const keyBytes = keys.reduce((sum, key) => sum + key.length - 2, 0);
rows.push(info("a device's answer: share of the CBOR that is names of fields", keyBytes / cbor.length, "of CBOR"));
report("messages", rows);
