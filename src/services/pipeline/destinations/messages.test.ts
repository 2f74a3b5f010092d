import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeBlocks } from "../../../kernel/events/codec.ts";
import { eventToRow } from "../../../kernel/events/edgex.ts";
import { BlockBuilder } from "../../../kernel/events/blocks.ts";
import { parseJson } from "../../../kernel/json.ts";
import { HttpsDestination } from "./config.ts";
import { encryptThenMac } from "./envelope.ts";
import { batchOf, defaultsOf, NODE } from "./fixture.ts";
import { type Message, MessageMaker } from "./messages.ts";
import { eventToXml } from "./xml.ts";

const EVENT = {
  apiVersion: "v3",
  id: "7a1707f0-166f-4c4b-bc9d-1d54c74e0137",
  deviceName: "pump<1>",
  profileName: "Pump",
  sourceName: "All",
  origin: 1_594_963_842_000_000_001n,
  tags: { "Site No": 'a&b"' },
  readings: [
    {
      id: "8a1707f0-166f-4c4b-bc9d-1d54c74e0137",
      origin: 1_594_963_842_000_000_001n,
      deviceName: "pump<1>",
      resourceName: "Note",
      profileName: "Pump",
      valueType: "String",
      value: "it's\n\u0001",
    },
  ],
};

test("an event in XML has the elements of EdgeX's, in their order, and is escaped as Go does", () => {
  assert.equal(
    eventToXml(EVENT),
    "<Event><ApiVersion>v3</ApiVersion><Id>7a1707f0-166f-4c4b-bc9d-1d54c74e0137</Id><DeviceName>pump&lt;1&gt;</DeviceName>" +
      "<ProfileName>Pump</ProfileName><SourceName>All</SourceName><Origin>1594963842000000001</Origin>" +
      "<Readings><Id>8a1707f0-166f-4c4b-bc9d-1d54c74e0137</Id><Origin>1594963842000000001</Origin>" +
      "<DeviceName>pump&lt;1&gt;</DeviceName><ResourceName>Note</ResourceName><ProfileName>Pump</ProfileName>" +
      "<ValueType>String</ValueType><Units></Units><BinaryValue></BinaryValue><MediaType></MediaType>" +
      "<Value>it&#39;s&#xA;\ufffd</Value></Readings><Tags><Site_No>a&amp;b&#34;</Site_No></Tags></Event>",
  );
});

test("encryption as EdgeX's agrees with the example of RFC 7518 B.3", () => {
  const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");
  const key = Buffer.from(Array.from({ length: 64 }, (_, n) => n));
  const plain = hex(
    "41 20 63 69 70 68 65 72 20 73 79 73 74 65 6d 20 6d 75 73 74 20 6e 6f 74 20 62 65 20 72 65 71 75 69 72 65 64 20 74 6f 20 62 65 20 73 65 63 72 65 74 2c 20 61 6e 64 20 69 74 20 6d 75 73 74 20 62 65 20 61 62 6c 65 20 74 6f 20 66 61 6c 6c 20 69 6e 74 6f 20 74 68 65 20 68 61 6e 64 73 20 6f 66 20 74 68 65 20 65 6e 65 6d 79 20 77 69 74 68 6f 75 74 20 69 6e 63 6f 6e 76 65 6e 69 65 6e 63 65",
  );
  const iv = hex("1a f3 8c 2d c2 b9 6f fd d8 66 94 09 23 41 bc 04");
  const beside = Buffer.from("The second principle of Auguste Kerckhoffs");
  const sealed = encryptThenMac(key, iv, plain, beside);
  assert.equal(
    sealed.subarray(-32).toString("hex"),
    "4dd3b4c088a7f45c216839645b2012bf2e6269a8c56a816dbc1b267761955bc5",
  );
  assert.equal(sealed.subarray(16, 32).toString("hex"), "4affaaadb78c31c5da4b1b590d10ffbd");
});

const makerOf = (form: object, placeOf?: () => string) => {
  const { format, shape, compression, messageBytesMax } = defaultsOf(HttpsDestination, {
    kind: "https",
    url: "https://x",
    ...form,
  });
  return new MessageMaker({
    node: NODE,
    form: { format, shape, compression, messageBytesMax },
    secrets: {},
    ...(placeOf ? { placeOf } : {}),
  });
};

async function all(messages: AsyncIterable<Message>): Promise<Message[]> {
  const found = [];
  for await (const message of messages) found.push(message);
  return found;
}

test("messages of a batch are the same whenever they are made, and can be made from any on", async () => {
  const { blocks } = batchOf(1, { events: 50 });
  for (const form of [{ shape: "event" }, { shape: "events", messageBytesMax: 5_000 }, { format: "columns" }]) {
    const whole = await all(makerOf(form).messages(blocks));
    assert.deepEqual(await all(makerOf(form).messages(blocks)), whole);
    const from = Math.floor(whole.length / 2);
    assert.deepEqual(await all(makerOf(form).messages(blocks, from)), whole.slice(from));
  }
  const lists = await all(makerOf({ messageBytesMax: 5_000 }).messages(blocks));
  assert.ok(lists.length > 3 && lists.every(({ body }) => body.length < 6_000));
  assert.equal(lists.flatMap(({ body }) => parseJson(body) as unknown[]).length, 50);
});

test("a request id that would break a header stays in the body", async () => {
  for (const [requestId, told] of [
    ["req-1", "req-1"],
    ["a\r\nInjected: 1", undefined],
    ["x".repeat(200), undefined],
  ] as const) {
    const { blocks } = batchOf(1, { events: 1, extra: { requestId } });
    const [message] = await all(makerOf({ shape: "request" }).messages(blocks));
    assert.equal(message.requestId, told);
    assert.equal((parseJson(message.body) as { requestId: string }).requestId, requestId);
    const [xml] = await all(makerOf({ shape: "request", format: "xml" }).messages(blocks));
    assert.match(Buffer.from(xml.body).toString(), /^<AddEventRequest>.*<\/AddEventRequest>$/);
  }
});

test("an event of a stranger keeps its own ids", async () => {
  const builder = new BlockBuilder({ publisher: { name: "~device-y", epoch: 1 } });
  const { series, origin, values, extra } = eventToRow(EVENT);
  builder.add(series, 1, origin, values, extra);
  const [message] = await all(makerOf({ shape: "event" }).messages(encodeBlocks(builder.blocks())));
  assert.deepEqual(parseJson(message.body), EVENT);
});
