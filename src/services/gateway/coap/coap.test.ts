/** CoAP at the door: the codec against the library's, the messages clause by clause of RFC 7252 and RFC 7959, a real socket. */
import assert from "node:assert/strict";
import { createSocket, type Socket } from "node:dgram";
import { after, before, test } from "node:test";
import { generate, parse } from "coap-packet";
import fc from "fast-check";
import { busAtDoor, type GatewayHouse, startGateway } from "../../../../test/houses/gateway.ts";
import { decodeCbor } from "../../../kernel/cbor.ts";
import { type Clock, systemClock } from "../../../kernel/clock.ts";
import { makeCall } from "../../../kernel/call.ts";
import { bus as busContract } from "../../bus/api.ts";
import { Bodies, readBlock, writeBlock } from "./blocks.ts";
import { Exchanges } from "./exchanges.ts";
import { type Option, type Packet, readPacket, TYPE, uintBytes, writePacket } from "./packet.ts";
import { codeOf, OPTION } from "./terms.ts";

const SEED = 7_252;
const NONE = Buffer.alloc(0);

/** A clock that is turned by hand. */
function manualClock(): Clock & { advance(ms: number): void } {
  let nowMs = 0;
  return { ...systemClock, monotonicMs: () => nowMs, advance: (ms) => void (nowMs += ms) };
}

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((each) => Buffer.from(each));
const packets = fc.record(
  {
    type: fc.integer({ min: 0, max: 3 }),
    code: fc.integer({ min: 1, max: 255 }),
    id: fc.integer({ min: 0, max: 0xffff }),
    token: bytes(8),
    options: fc
      .array(fc.record({ number: fc.integer({ min: 0, max: 3_000 }), value: bytes(400) }, { noNullPrototype: true }), {
        maxLength: 8,
      })
      .map((options) => options.toSorted((a, b) => a.number - b.number)),
    payload: bytes(600),
  },
  { noNullPrototype: true },
);

test("what is written is read as it was, by us and by the library; whatever bytes come, reading ends", () => {
  fc.assert(
    fc.property(packets, (packet) => {
      const written = writePacket(packet);
      assert.deepEqual(readPacket(written), packet);
      const theirs = parse(written);
      assert.deepEqual([theirs.messageId, theirs.token, theirs.payload], [packet.id, packet.token, packet.payload]);
      assert.deepEqual(
        theirs.options?.map(({ value }) => value),
        packet.options.map(({ value }) => value),
      );
    }),
    { seed: SEED, numRuns: 300 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (given) => {
      const read = readPacket(Buffer.from(given));
      if (read && !("malformed" in read)) assert.deepEqual(readPacket(writePacket(read)), read);
    }),
    { seed: SEED, numRuns: 3_000 },
  );
  const ours = generate({
    code: "GET",
    messageId: 7,
    token: Buffer.from("t"),
    options: [{ name: "Uri-Path", value: Buffer.from("a") }],
  });
  assert.deepEqual((readPacket(ours) as Packet).options, [{ number: OPTION.uriPath, value: Buffer.from("a") }]);
});

test("a block option says its number, whether there are more, and its size (RFC 7959 2.2)", () => {
  for (const [hex, block] of [
    ["", { number: 0, more: false, exponent: 0 }],
    ["0e", { number: 0, more: true, exponent: 6 }],
    ["0110", { number: 17, more: false, exponent: 0 }],
    ["fffff6", { number: 0xfffff, more: false, exponent: 6 }],
  ] as const) {
    assert.deepEqual(readBlock(Buffer.from(hex, "hex")), block);
    assert.equal(writeBlock(block).toString("hex"), hex);
  }
  for (const hex of ["07", "0f", "00000000"]) assert.equal(readBlock(Buffer.from(hex, "hex")), undefined);
});

test("what is to be acknowledged is sent again after twice as long each time, a stranger's once (RFC 7252 4.2, 11.3)", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const clock = manualClock();
  const sent: string[] = [];
  const exchanges = new Exchanges({ clock, send: (each) => void sent.push(each.toString()) });
  const peer = { address: "127.0.0.1", port: 1 };
  exchanges.confirm(peer, 1, Buffer.from("first"));
  t.mock.timers.tick(200_000);
  assert.deepEqual(sent, ["first", "first"]);
  exchanges.confirm(peer, 2, Buffer.from("second"));
  exchanges.acknowledged(peer, 3);
  assert.ok(!exchanges.believes(peer));
  exchanges.acknowledged(peer, 2);
  assert.ok(exchanges.believes(peer) && !exchanges.believes({ ...peer, port: 2 }));
  t.mock.timers.tick(200_000);
  assert.equal(sent.length, 3);
  sent.length = 0;
  exchanges.confirm(peer, 4, Buffer.from("third"));
  const counts = [1_999, 1_001, 6_000, 12_000, 24_000, 400_000].map((ms) => {
    t.mock.timers.tick(ms);
    return sent.length;
  });
  assert.deepEqual(counts, [1, 2, 3, 4, 5, 5]);
  exchanges.close();
});

test("what comes twice is answered with the same while its id is its own (RFC 7252 4.5, 4.8.2)", () => {
  const clock = manualClock();
  const sent: string[] = [];
  const exchanges = new Exchanges({ clock, send: (each) => void sent.push(each.toString()) });
  const peer = { address: "127.0.0.1", port: 1 };
  assert.ok(exchanges.begin(peer, 5));
  assert.ok(!exchanges.begin(peer, 5));
  assert.deepEqual(sent, []);
  exchanges.answer(peer, 5, Buffer.from("said"));
  assert.ok(!exchanges.begin(peer, 5) && exchanges.begin({ ...peer, port: 2 }, 5));
  assert.deepEqual(sent, ["said", "said"]);
  clock.advance(247_001);
  assert.ok(exchanges.begin(peer, 5));
  // The oldest of too many is forgotten.
  for (let id = 0; id < 4_096; id++) exchanges.begin({ address: "127.0.0.2", port: 1 }, id);
  assert.ok(exchanges.begin(peer, 5));
});

test("a body is put together block by block; one out of order, too large or too late is not (RFC 7959 2.5)", () => {
  const clock = manualClock();
  const bodies = new Bodies(clock);
  const block = (number: number, more: boolean, exponent = 0) => ({ number, more, exponent });
  const sixteen = Buffer.alloc(16, 1);
  assert.equal(bodies.take("a", block(0, true), sixteen), "continue");
  assert.deepEqual(bodies.take("b", block(1, false), sixteen), { refused: "incomplete" });
  assert.deepEqual(bodies.take("a", block(1, false), Buffer.from("x")), {
    body: Buffer.concat([sixteen, Buffer.from("x")]),
  });
  assert.deepEqual(bodies.take("a", block(1, false), Buffer.from("x")), { refused: "incomplete" });
  assert.deepEqual(bodies.take("a", block(0, true), Buffer.from("short")), { refused: "incomplete" });
  bodies.take("a", block(0, true), sixteen);
  assert.deepEqual(bodies.take("a", block(2, false), sixteen), { refused: "incomplete" });
  bodies.take("a", block(0, true), sixteen);
  clock.advance(60_001);
  assert.deepEqual(bodies.take("a", block(1, false), sixteen), { refused: "incomplete" });
  let taken = bodies.take("a", block(0, true, 6), Buffer.alloc(1024));
  for (let number = 1; taken === "continue"; number++)
    taken = bodies.take("a", block(number, true, 6), Buffer.alloc(1024));
  assert.deepEqual(taken, { refused: "tooLarge" });
});

let house: GatewayHouse;
let stopBus: () => Promise<void>;
const TEXT = "0123456789abcdef".repeat(100);

const rules = (json: object = { at: "the door" }) => {
  const topic = { publish: "edgex/telemetry/gateway/{device}" };
  const coap = true;
  return {
    routes: [
      {
        name: "about",
        match: { path: "/about" },
        access: "public",
        coap,
        speaks: "json",
        respond: { json },
      },
      { name: "long", match: { path: "/long", methods: ["GET"] }, access: "public", coap, respond: { text: TEXT } },
      { name: "say", match: { path: "/say/{device}" }, access: "public", coap, topic },
      { name: "hidden", match: { path: "/hidden" }, access: "public", respond: { text: "for people" } },
      {
        name: "ask",
        match: { path: "/ask" },
        access: "public",
        coap,
        timeoutMs: 1_000,
        topic: { request: "edgex/telemetry/gateway/asked", reply: "edgex/telemetry/pump/said" },
      },
    ],
  };
};

before(async () => {
  house = await startGateway();
  stopBus = await busAtDoor(house);
  house.routes(rules());
});
after(async () => {
  await stopBus();
  await house.stop();
});

/** A device: one port of its own. */
class Device {
  readonly #socket: Socket = createSocket("udp4");
  readonly #got: Packet[] = [];
  #wake = (): void => undefined;
  #id = 0;

  constructor() {
    // A test that fails ends nevertheless.
    this.#socket.unref();
    this.#socket.on("message", (given) => {
      this.#got.push(readPacket(given) as Packet);
      this.#wake();
    });
  }

  send(given: Buffer): void {
    this.#socket.send(given, house.coapPort, "127.0.0.1");
  }

  /** What came and nobody has looked at. */
  get waiting(): number {
    return this.#got.length;
  }

  async next(): Promise<Packet> {
    while (this.#got.length === 0) await new Promise<void>((resolve) => (this.#wake = resolve));
    return this.#got.shift()!;
  }

  /** Asks, and gives the answer; acknowledges what comes by itself. */
  async ask(
    path: string,
    more: Partial<Packet> & { code?: number } = {},
  ): Promise<Packet & { bytes: number; sent: number }> {
    this.#id++;
    const { token = Buffer.from([this.#id]) } = more;
    const segments = path
      .slice(1)
      .split("/")
      .map((each): Option => ({ number: OPTION.uriPath, value: Buffer.from(each) }));
    const base = { type: TYPE.confirmable, code: 1, id: this.#id, token, payload: NONE };
    const asked = writePacket({ ...base, ...more, options: [...segments, ...(more.options ?? [])] });
    this.send(asked);
    for (;;) {
      const packet = await this.next();
      if (packet.type === TYPE.confirmable) this.send(empty(TYPE.acknowledgement, packet.id));
      if (packet.code !== 0 && packet.token.equals(token))
        return { ...packet, bytes: writePacket(packet).length, sent: asked.length };
    }
  }

  close(): void {
    this.#socket.close();
  }
}

const empty = (type: number, id: number) => writePacket({ type, code: 0, id, token: NONE, options: [], payload: NONE });
const valueOf = ({ options }: Packet, number: number) => options.find((each) => each.number === number)?.value;
const option = (number: number, value: number): Option => ({ number, value: uintBytes(value) });

test("a device asks for a route and has its answer with the acknowledgement: a code, a format, how long it holds", async () => {
  const device = new Device();
  const json = await device.ask("/about");
  assert.deepEqual(
    [json.type, json.code, json.payload.toString()],
    [TYPE.acknowledgement, codeOf("2.05"), '{"at":"the door"}'],
  );
  assert.deepEqual([valueOf(json, OPTION.contentFormat), valueOf(json, OPTION.maxAge)], [Buffer.from([50]), NONE]);
  const cbor = await device.ask("/about", { options: [option(OPTION.accept, 60)] });
  assert.deepEqual(decodeCbor(cbor.payload), { at: "the door" });
  assert.deepEqual(valueOf(cbor, OPTION.contentFormat), Buffer.from([60]));
  const one = await device.ask("/about", { type: TYPE.nonConfirmable });
  assert.deepEqual([one.type, one.code], [TYPE.nonConfirmable, codeOf("2.05")]);
  device.close();
});

test("what is wrong has the code that the clause names, and what is for people is not there", async () => {
  const device = new Device();
  const codes: readonly (readonly [string, Partial<Packet>, string])[] = [
    ["/hidden", {}, "4.04"],
    ["/healthz", {}, "4.04"],
    ["/none", {}, "4.04"],
    ["/say/x", { code: 4 }, "4.05"],
    ["/long", { code: 5 }, "4.05"],
    ["/say/x", { code: 1 }, "4.05"],
    ["/about", { options: [option(9, 1)] }, "4.02"],
    ["/about", { options: [option(OPTION.accept, 50), option(OPTION.accept, 50)] }, "4.02"],
    ["/about", { options: [option(OPTION.block2, 7)] }, "4.02"],
    ["/about", { options: [option(OPTION.accept, 9_999)] }, "4.06"],
    ["/say/x", { code: 2, options: [option(OPTION.contentFormat, 9_999)] }, "4.15"],
    ["/about", { options: [{ number: OPTION.proxyUri, value: Buffer.from("coap://x/") }] }, "5.05"],
    ["/..", {}, "4.00"],
    ["/say/#", { code: 2 }, "4.00"],
  ];
  for (const [path, more, code] of codes)
    assert.equal((await device.ask(path, more)).code, codeOf(code), `${path} ${code}`);
  device.send(empty(TYPE.confirmable, 0x1111));
  const pong = await device.next();
  assert.deepEqual([pong.type, pong.id, pong.code], [TYPE.reset, 0x1111, 0]);
  for (const [hex, rejected] of [
    ["40011234ff", true],
    ["40451234", true],
    ["49011234", true],
    ["50011234ff", false],
    ["80011234", false],
    ["00", false],
    ["60451234", false],
  ] as const) {
    device.send(Buffer.from(hex, "hex"));
    if (rejected) assert.deepEqual((await device.next()).type, TYPE.reset, hex);
  }
  assert.equal((await device.ask("/about")).code, codeOf("2.05"));
  device.close();
});

test("a body in blocks is a message of the bus, done once however often its last block comes", async () => {
  const call = makeCall({ caller: "trace", timeoutMs: Number.POSITIVE_INFINITY });
  const listen = house.house.connect(busContract, "trace").listen({ topics: ["edgex/telemetry/gateway/+"] }, call);
  const messages = listen[Symbol.asyncIterator]();
  const first = messages.next();
  const device = new Device();
  const body = Buffer.from(TEXT.slice(0, 600));
  const at = (number: number) => {
    const more = (number + 1) * 256 < body.length;
    const options = [option(OPTION.block1, (number << 4) | (more ? 8 : 0) | 4)];
    return { code: 2, options, payload: body.subarray(number * 256, (number + 1) * 256), id: 0x2000 + number };
  };
  for (const number of [0, 1]) {
    const { code, options } = await device.ask("/say/pump", at(number));
    assert.equal(code, codeOf("2.31"));
    assert.deepEqual(options, [{ number: OPTION.block1, value: writeBlock({ number, more: true, exponent: 4 }) }]);
  }
  const last = await device.ask("/say/pump", at(2));
  assert.equal(last.code, codeOf("2.04"));
  const heard = (await first).value as { topic: string; payload: Uint8Array };
  assert.deepEqual(
    [heard.topic, Buffer.from(heard.payload).toString()],
    ["edgex/telemetry/gateway/pump", body.toString()],
  );
  const again = writePacket({
    type: 0,
    ...at(2),
    token: Buffer.from([3]),
    options: [
      ...["say", "pump"].map((each) => ({ number: OPTION.uriPath, value: Buffer.from(each) })),
      ...at(2).options,
    ],
  });
  device.send(again);
  assert.deepEqual(await device.next(), (({ bytes: _, sent: __, ...packet }) => packet)(last));
  await device.ask("/say/end", { code: 2, payload: Buffer.from("end") });
  assert.equal(((await messages.next()).value as { topic: string }).topic, "edgex/telemetry/gateway/end");
  assert.equal((await device.ask("/say/pump", { ...at(2), id: 0x3000 })).code, codeOf("4.08"));
  call.end(true);
  device.close();
});

test("a long answer comes in blocks: to a stranger in small ones, until it has acknowledged one (RFC 7252 11.3)", async () => {
  const read = async (device: Device) => {
    let text = "";
    const sizes: number[] = [];
    let most = 0;
    for (let number = 0; ; number++) {
      const exponent = sizes.length === 0 ? 6 : Math.log2(sizes[0]) - 4;
      const options = number === 0 ? [] : [option(OPTION.block2, (number << 4) | exponent)];
      const answer = await device.ask("/long", { options });
      const block = readBlock(valueOf(answer, OPTION.block2)!)!;
      assert.equal(block.number, number);
      if (sizes.length === 0) {
        most = answer.bytes / answer.sent;
        assert.deepEqual(valueOf(answer, OPTION.size2), uintBytes(TEXT.length));
      }
      sizes.push(16 << block.exponent);
      text += answer.payload.toString();
      if (!block.more) return { text, sizes, most };
    }
  };
  const device = new Device();
  const stranger = await read(device);
  assert.equal(stranger.text, TEXT);
  assert.equal(stranger.sizes[0], 64);
  assert.ok(stranger.most <= 9, String(stranger.most));
  const believed = await read(device);
  assert.deepEqual([believed.text, believed.sizes], [TEXT, [1024, 1024]]);
  const small = await device.ask("/long", { options: [option(OPTION.block2, 2)] });
  assert.equal(small.payload.length, 64);
  const beyond = await device.ask("/long", { options: [option(OPTION.block2, (99 << 4) | 6)] });
  assert.equal(beyond.code, codeOf("4.02"));
  device.close();
});

test("what takes longer is acknowledged first and comes by itself; who answers in time is not the only case (5.2.2)", async () => {
  const device = new Device();
  const answer = await device.ask("/ask", { code: 2, payload: Buffer.from("?") });
  assert.deepEqual([answer.type, answer.code], [TYPE.confirmable, codeOf("5.04")]);
  device.close();
});

test("who observes is told what has changed, until it says that it has had enough, or takes it no more (RFC 7641)", async () => {
  const device = new Device();
  const observe = [{ number: OPTION.observe, value: NONE }];
  const first = await device.ask("/about", { options: observe });
  // A stranger has to acknowledge it: nobody else is sent anything by a forged address.
  assert.deepEqual([first.type, first.code], [TYPE.confirmable, codeOf("2.05")]);
  const number = (packet: Packet) => valueOf(packet, OPTION.observe)!.reduce((sum, byte) => sum * 256 + byte, 0);
  const change = (at: string) => house.routes(rules({ at }));
  change("another door");
  const told = await device.next();
  assert.deepEqual([told.type, told.payload.toString()], [TYPE.confirmable, '{"at":"another door"}']);
  assert.deepEqual([told.token, valueOf(told, OPTION.maxAge)], [first.token, Buffer.from([60])]);
  assert.ok(number(told) > number(first), "3.4: what is newer has a higher number");
  device.send(empty(TYPE.acknowledgement, told.id));
  // 3.6: the same token with 1 ends it.
  const last = await device.ask("/about", { token: first.token, options: [option(OPTION.observe, 1)] });
  assert.deepEqual([last.type, valueOf(last, OPTION.observe)], [TYPE.acknowledgement, undefined]);
  change("a third door");
  // 4.5: who rejects a notification is told no more.
  const again = await device.ask("/about", { options: observe });
  assert.equal(again.type, TYPE.acknowledgement, "it is believed by now");
  change("a fourth door");
  const rejected = await device.next();
  assert.deepEqual([rejected.token, rejected.payload.toString()], [again.token, '{"at":"a fourth door"}']);
  device.send(empty(TYPE.reset, rejected.id));
  const other = new Device();
  const seen = await other.ask("/about", { options: observe });
  change("the door");
  const notified = await other.next();
  assert.deepEqual(notified.token, seen.token);
  other.send(empty(TYPE.acknowledgement, notified.id));
  assert.equal(device.waiting, 0);
  // 4.2: an error is told, and is the last.
  house.routes({ routes: [] });
  const gone = await other.next();
  assert.deepEqual([gone.code, valueOf(gone, OPTION.observe)], [codeOf("4.04"), undefined]);
  other.send(empty(TYPE.acknowledgement, gone.id));
  const unproved = await new Device().ask("/about", { type: TYPE.nonConfirmable, options: observe });
  assert.equal(valueOf(unproved, OPTION.observe), undefined);
  device.close();
  other.close();
});
