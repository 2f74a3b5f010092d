/** HTTP/2 at the door, frame by frame: each case names the clause of RFC 9113 (or RFC 7541, HPACK) that it is from. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  ACK,
  block,
  CONTINUATION,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  FrameClient,
  GOAWAY,
  HEADERS,
  headers,
  PADDED,
  PING,
  PRIORITIZED,
  PRIORITY,
  PUSH_PROMISE,
  request,
  RST_STREAM,
  SETTINGS,
  u32,
  WINDOW_UPDATE,
} from "../../../../test/houses/frames.ts";
import { type GatewayHouse, startGateway } from "../../../../test/houses/gateway.ts";

let house: GatewayHouse;

before(async () => {
  house = await startGateway({ bodyBytesMax: 100_000 });
  await house.echo();
});
after(() => house.stop());

const post = (stream: number) => headers(stream, END_HEADERS, request("POST", "/echo/api/v3/write"));
const long = (bytes: number) =>
  headers(1, END_HEADERS, [...request("POST", "/echo/api/v3/write"), ["content-length", String(bytes)]]);
const get = (more: readonly (readonly [string, string])[]) => [
  headers(1, END_STREAM | END_HEADERS, [...request(), ...more]),
];
const without = (name: string) => [
  headers(
    1,
    END_STREAM | END_HEADERS,
    request().filter(([n]) => n !== name),
  ),
];
const twice = (name: string) => [
  headers(1, END_STREAM | END_HEADERS, [...request().filter(([n]) => n === name), ...request()]),
];
const raw = (...parts: Uint8Array[]) => [frame(HEADERS, END_STREAM | END_HEADERS, 1, Buffer.concat(parts))];
const open = frame(HEADERS, END_STREAM, 1, block(request()));
const setting = (id: number, value: number) => [
  frame(SETTINGS, 0, 0, Buffer.concat([Buffer.from([0, id]), u32(value)])),
];
const x = Buffer.from("x");
const reset = (stream: number, code = 8) => frame(RST_STREAM, 0, stream, u32(code));
const PROTOCOL = 1;
const FLOW = 3;
const CLOSED = 5;
const SIZE = 6;
const COMPRESSION = 9;

/** Breaches that end the connection, with the code that it ends with. */
const CONNECTION: readonly (readonly [clause: string, frames: readonly Uint8Array[], code: number])[] = [
  ["4.2: DATA above the frame size", [post(1), frame(DATA, END_STREAM, 1, Buffer.alloc(16_385))], SIZE],
  ["4.2: HEADERS above the frame size", [frame(HEADERS, END_STREAM | END_HEADERS, 1, Buffer.alloc(16_385))], SIZE],
  ["4.3: a header block that is no HPACK", raw(Buffer.from([0x40, 0x40])), COMPRESSION],
  ["4.3: PRIORITY within a header block", [open, frame(PRIORITY, 0, 1, Buffer.alloc(5))], PROTOCOL],
  ["4.3: HEADERS of another stream within a header block", [open, headers(3)], PROTOCOL],
  ["5.5: an unknown frame within a header block", [open, frame(0x16, 0, 0, Buffer.alloc(8))], PROTOCOL],
  ["5.1: DATA on an idle stream", [frame(DATA, END_STREAM, 1, x)], PROTOCOL],
  ["5.1: RST_STREAM on an idle stream", [reset(1)], PROTOCOL],
  ["5.1: WINDOW_UPDATE on an idle stream", [frame(WINDOW_UPDATE, 0, 1, u32(9))], PROTOCOL],
  ["5.1: CONTINUATION on an idle stream", [frame(CONTINUATION, END_HEADERS, 1, block(request()))], PROTOCOL],
  ["5.1: DATA after END_STREAM", [headers(1), frame(DATA, END_STREAM, 1, x)], CLOSED],
  ["5.1: HEADERS after END_STREAM", [headers(1), headers(1)], CLOSED],
  ["5.1: DATA after RST_STREAM", [post(1), reset(1), frame(DATA, END_STREAM, 1, x)], CLOSED],
  ["5.1: HEADERS after RST_STREAM", [post(1), reset(1), headers(1)], CLOSED],
  ["5.1.1: an even stream id", [headers(2)], PROTOCOL],
  ["5.1.1: a stream id smaller than the one before", [headers(5), headers(3)], PROTOCOL],
  ["5.3.1 (RFC 7540): PRIORITY of a stream on itself", [frame(PRIORITY, 0, 1, Buffer.concat([u32(1), x]))], PROTOCOL],
  [
    "5.3.1 (RFC 7540): HEADERS that depend on their own stream",
    [frame(HEADERS, END_STREAM | END_HEADERS | PRIORITIZED, 1, Buffer.concat([u32(1), x, block(request())]))],
    PROTOCOL,
  ],
  ["6.1: DATA on stream 0", [frame(DATA, END_STREAM, 0, x)], PROTOCOL],
  ["6.1: padding longer than DATA", [post(1), frame(DATA, END_STREAM | PADDED, 1, Buffer.from([9, 65]))], PROTOCOL],
  ["6.2: HEADERS on stream 0", [headers(0)], PROTOCOL],
  [
    "6.2: padding longer than HEADERS",
    [frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, Buffer.concat([Buffer.from([255]), block(request())]))],
    PROTOCOL,
  ],
  ["6.3: PRIORITY on stream 0", [frame(PRIORITY, 0, 0, Buffer.alloc(5))], PROTOCOL],
  ["6.3: PRIORITY of 4 bytes", [post(1), frame(PRIORITY, 0, 1, Buffer.alloc(4))], SIZE],
  ["6.4: RST_STREAM on stream 0", [frame(RST_STREAM, 0, 0, u32(8))], PROTOCOL],
  ["6.4: RST_STREAM of 3 bytes", [post(1), frame(RST_STREAM, 0, 1, Buffer.alloc(3))], SIZE],
  ["6.5: SETTINGS on a stream", [frame(SETTINGS, 0, 1)], PROTOCOL],
  ["6.5: SETTINGS of 3 bytes", [frame(SETTINGS, 0, 0, Buffer.alloc(3))], SIZE],
  ["6.5: an acknowledgement with a payload", [frame(SETTINGS, ACK, 0, x)], SIZE],
  ["6.5.2: ENABLE_PUSH that is neither 0 nor 1", setting(2, 2), PROTOCOL],
  ["6.5.2: INITIAL_WINDOW_SIZE above 2^31-1", setting(4, 2 ** 31), FLOW],
  ["6.5.2: MAX_FRAME_SIZE below 2^14", setting(5, 16_383), PROTOCOL],
  ["6.5.2: MAX_FRAME_SIZE above 2^24-1", setting(5, 2 ** 24), PROTOCOL],
  ["6.7: PING on a stream", [frame(PING, 0, 1, Buffer.alloc(8))], PROTOCOL],
  ["6.7: PING of 6 bytes", [frame(PING, 0, 0, Buffer.alloc(6))], SIZE],
  ["6.8: GOAWAY on a stream", [frame(GOAWAY, 0, 1, Buffer.alloc(8))], PROTOCOL],
  ["6.9: WINDOW_UPDATE of 0", [frame(WINDOW_UPDATE, 0, 0, u32(0))], PROTOCOL],
  ["6.9: WINDOW_UPDATE of 3 bytes", [frame(WINDOW_UPDATE, 0, 0, Buffer.alloc(3))], SIZE],
  ["6.9.1: a connection's window above 2^31-1", [frame(WINDOW_UPDATE, 0, 0, u32(2 ** 31 - 1))], FLOW],
  ["6.9.2: INITIAL_WINDOW_SIZE above 2^31-1 beside a sound one", [...setting(4, 1), ...setting(4, 2 ** 31)], FLOW],
  ["6.10: CONTINUATION on stream 0", [open, frame(CONTINUATION, END_HEADERS, 0)], PROTOCOL],
  [
    "6.10: CONTINUATION after the last one of its block",
    [open, frame(CONTINUATION, END_HEADERS, 1), frame(CONTINUATION, END_HEADERS, 1)],
    PROTOCOL,
  ],
  ["6.10: DATA between the pieces of a block", [open, frame(CONTINUATION, 0, 1), frame(DATA, 0, 1, x)], PROTOCOL],
  ["6.10: CONTINUATION after RST_STREAM", [post(1), reset(1), frame(CONTINUATION, END_HEADERS, 1)], PROTOCOL],
  ["6.10: CONTINUATION after END_HEADERS", [post(1), frame(CONTINUATION, END_HEADERS, 1)], PROTOCOL],
  ["6.10: CONTINUATION after DATA", [post(1), frame(DATA, 0, 1, x), frame(CONTINUATION, END_HEADERS, 1)], PROTOCOL],
  [
    "8.4: a push from a client",
    [frame(PUSH_PROMISE, END_HEADERS, 1, Buffer.concat([u32(2), block(request())]))],
    PROTOCOL,
  ],
  ["HPACK 2.3.3: an index beyond the tables", raw(block(request()), Buffer.from([0xc6])), COMPRESSION],
  ["HPACK 2.3.3: a name's index beyond the tables", raw(block(request()), Buffer.from("7f000161", "hex")), COMPRESSION],
  [
    "HPACK 5.2: Huffman padding of zeros",
    raw(block(request()), Buffer.from("0085f2b24a84ff83495090", "hex")),
    COMPRESSION,
  ],
  [
    "HPACK 5.2: the end of a string within it",
    raw(block(request()), Buffer.from("0085f2b24a87fffffffd25427f", "hex")),
    COMPRESSION,
  ],
  ["HPACK 4.2: a table size at the block's end", raw(block(request()), Buffer.from([0x20])), COMPRESSION],
  [
    "HPACK 5.2: Huffman padding of more than 7 bits",
    raw(block(request()), Buffer.from("0085f2b24a84ff8449509fff", "hex")),
    COMPRESSION,
  ],
  ["HPACK 6.1: index 0", raw(block(request()), Buffer.from([0x80])), COMPRESSION],
  ["HPACK 6.3: a table larger than allowed", raw(Buffer.from([0x3f, 0xe1, 0xff, 0x03]), block(request())), COMPRESSION],
  ["8.1.1: DATA longer than Content-Length", [long(1), frame(DATA, END_STREAM, 1, Buffer.from("test"))], PROTOCOL],
  [
    "8.1.1: DATA longer than Content-Length, in parts",
    [long(1), frame(DATA, 0, 1, Buffer.from("te")), frame(DATA, END_STREAM, 1, Buffer.from("st"))],
    PROTOCOL,
  ],
];

test("frames against RFC 9113 end the connection with their code, and nothing of it is forwarded", async () => {
  const wrong: string[] = [];
  for (const [clause, frames, code] of CONNECTION) {
    const client = await FrameClient.open(house);
    const seen = await client.send(...frames).until(/^(GOAWAY|CLOSED)/);
    if (!seen.includes(`GOAWAY(${code})`)) wrong.push(`${clause}: ${seen.join(" ")} instead of ${code}`);
    client.socket.destroy();
  }
  assert.deepEqual(wrong, []);
  assert.ok(
    !house.lines.some((l) => l["operation"] === "write" && l["upstream"] === "echo" && l["status"] === 201 && l["url"]),
  );
});

/** Breaches that end their stream, mostly with PROTOCOL_ERROR (8.1.1); the connection goes on. */
const STREAM: readonly (readonly [clause: string, frames: readonly Uint8Array[], code?: number])[] = [
  ["6.9: WINDOW_UPDATE of 0", [post(1), frame(WINDOW_UPDATE, 0, 1, u32(0))]],
  [
    "6.9.1: a stream's window above 2^31-1",
    [post(1), ...[1, 2].map(() => frame(WINDOW_UPDATE, 0, 1, u32(2 ** 31 - 1)))],
    FLOW,
  ],
  [
    "6.9.1: a stream's window above 2^31-1, since it began with some",
    [post(1), frame(WINDOW_UPDATE, 0, 1, u32(2 ** 31 - 1))],
    FLOW,
  ],
  ["8.1.1: DATA shorter than Content-Length", [long(9), frame(DATA, END_STREAM, 1, x)]],
  ["8.1: a second header block without END_STREAM", [post(1), frame(HEADERS, END_HEADERS, 1, block([["x", "y"]]))]],
  ["8.2.1: a field name in upper case", get([["X-A", "b"]])],
  ["8.3: an unknown pseudo-header", get([[":test", "b"]])],
  ["8.3: a pseudo-header of answers", get([[":status", "200"]])],
  [
    "8.3: a pseudo-header in trailers",
    [post(1), frame(HEADERS, END_STREAM | END_HEADERS, 1, block([[":method", "GET"]]))],
  ],
  ["8.3: a pseudo-header after a header", [headers(1, END_STREAM | END_HEADERS, [["x", "y"], ...request()])]],
  ["8.2.2: Connection", get([["connection", "keep-alive"]])],
  ["8.2.2: Transfer-Encoding", get([["transfer-encoding", "chunked"]])],
  ["8.2.2: Upgrade", get([["upgrade", "websocket"]])],
  ["8.2.2: TE that is not 'trailers'", get([["te", "trailers, deflate"]])],
  ["8.3.1: an empty :path", [headers(1, END_STREAM | END_HEADERS, request("GET", ""))]],
  ["8.3.1: no :method", without(":method")],
  ["8.3.1: no :scheme", without(":scheme")],
  ["8.3.1: no :path", without(":path")],
  ["8.3.1: two :method", twice(":method")],
  ["8.3.1: two :scheme", twice(":scheme")],
  ["8.3.1: two :path", twice(":path")],
  [
    "8.1.1: two Content-Length",
    get([
      ["content-length", "0"],
      ["content-length", "0"],
    ]),
  ],
];

test("a malformed request, and a window that is none, end their stream with their code, and the connection goes on", async () => {
  const wrong: string[] = [];
  for (const [clause, frames, code = PROTOCOL] of STREAM) {
    const client = await FrameClient.open(house);
    client.send(...frames);
    const seen = await client.until(/^RST/);
    if (!seen.includes(`RST(1,${code})`) || !(await client.settled()).includes("PONG"))
      wrong.push(`${clause}: ${seen.join(" ")}`);
    client.socket.destroy();
  }
  assert.deepEqual(wrong, []);
});

test("what RFC 9113 allows is taken: unknown frames, padding, priorities, empty settings, frames on closed streams", async () => {
  const client = await FrameClient.open(house);
  client.send(
    frame(0x16, 0, 0, Buffer.alloc(8)),
    frame(PRIORITY, 0, 1, Buffer.concat([u32(0), x])),
    frame(
      HEADERS,
      END_STREAM | END_HEADERS | PADDED,
      1,
      Buffer.concat([Buffer.from([4]), block(request()), Buffer.alloc(4)]),
    ),
    frame(HEADERS, END_STREAM, 3, block(request().slice(0, 2))),
    frame(CONTINUATION, END_HEADERS, 3, block(request().slice(2))),
    ...setting(99, 1),
  );
  await client.until(/^D3$/);
  // 5.1: on a closed stream these may still come.
  client.send(frame(WINDOW_UPDATE, 0, 1, u32(9)), frame(PRIORITY, 0, 1, Buffer.concat([u32(0), x])), reset(1));
  const seen = await client.settled();
  assert.deepEqual([...new Set(seen)].sort(), ["D1", "D3", "H1", "H3", "PONG"]);
  client.socket.destroy();
});

/** What has to be answered: how, and in parts of how many bytes. */
const TAKEN: readonly (readonly [
  clause: string,
  steps: readonly (readonly Uint8Array[])[],
  bytes?: readonly number[],
])[] = [
  ["8.1: GET", [[headers(1)]]],
  ["8.1: HEAD", [[headers(1, END_STREAM | END_HEADERS, request("HEAD"))]], []],
  ["8.1: POST", [[post(1), frame(DATA, END_STREAM, 1, Buffer.from("test"))]]],
  [
    "8.1: POST with trailers",
    [[post(1), frame(DATA, 0, 1, x), frame(HEADERS, END_STREAM | END_HEADERS, 1, block([["x-test", "ok"]]))]],
  ],
  ["6.1: padded DATA", [[post(1), frame(DATA, END_STREAM | PADDED, 1, Buffer.from([1, 65, 0]))]]],
  ["4.2: DATA of the frame size", [[post(1), frame(DATA, END_STREAM, 1, Buffer.alloc(16_384))]]],
  ["6.10: a block in three pieces", [[open, frame(CONTINUATION, 0, 1), frame(CONTINUATION, END_HEADERS, 1)]]],
  ["HPACK 6.2.1: a literal that is kept", [raw(block(request()), Buffer.from("4085f2b24a84ff849c48aca4", "hex"))]],
  ["HPACK 6.2.3: a literal never to be kept", [raw(block(request()), Buffer.from("1085f2b24a84ff849c48aca4", "hex"))]],
  ["HPACK 6.3: table sizes at the block's beginning", [raw(Buffer.from("203fe11f", "hex"), block(request()))]],
  ["6.9.1: a window of 1", [setting(4, 1), [headers(1)]], [1]],
  ["6.5.3: the last of several values counts", [[...setting(4, 100), ...setting(4, 1)], [headers(1)]], [1]],
  [
    "5.1: WINDOW_UPDATE on a half-closed stream",
    [setting(4, 0), [headers(1), frame(WINDOW_UPDATE, 0, 1, u32(1))]],
    [1],
  ],
  ["6.9.2: a window that is opened later", [setting(4, 0), [headers(1)], setting(4, 1)], [1]],
  [
    "6.9.2: a window below zero",
    [setting(4, 3), [headers(1)], setting(4, 2), [frame(WINDOW_UPDATE, 0, 1, u32(2))]],
    [3, 1],
  ],
];

test("what RFC 9113 wants answered is, within the window that the client gives", async () => {
  const wrong: string[] = [];
  for (const [clause, steps, bytes] of TAKEN) {
    const client = await FrameClient.open(house);
    for (const [i, frames] of steps.entries()) {
      client.send(...frames);
      // Settings count once they are acknowledged; a part is waited for where the next step depends on it.
      if (bytes === undefined || bytes.length === 0) continue;
      const settings =
        steps
          .slice(0, i + 1)
          .flat()
          .filter((each) => each[3] === SETTINGS).length + 1;
      await client.when(() => client.acknowledged >= settings);
      if (i === 1 && bytes.length > 1) await client.when(() => client.dataBytes.length > 0);
    }
    const answered = await client.until(/^H1$/);
    await client.when(() => client.dataBytes.length >= (bytes?.length ?? 1));
    if (!answered.includes("H1") || (bytes && String(client.dataBytes) !== String(bytes)))
      wrong.push(`${clause}: ${client.seen.join(" ")}, ${client.dataBytes.join()}`);
    client.socket.destroy();
  }
  assert.deepEqual(wrong, []);
});

test("4.1, 5.5, 6.7, 7: flags, bits, codes and acknowledgements that mean nothing change nothing", async () => {
  const client = await FrameClient.open(house);
  const reserved = frame(PING, 0, 0, Buffer.alloc(8));
  reserved[5] |= 0x80;
  client.send(
    post(1),
    reset(1, 0xff),
    frame(PING, ACK, 0, Buffer.from("unasked!")),
    frame(PING, 0x16, 0, Buffer.alloc(8)),
  );
  // However it is cut.
  for (const byte of frame(PING, ACK, 0, Buffer.from("unasked!"))) client.send(Buffer.from([byte]));
  client.send(reserved, frame(HEADERS, END_STREAM | END_HEADERS | 0x42, 3, block(request())));
  await client.until(/^D3$/);
  const seen = await client.when(() => client.seen.filter((each) => each === "PONG").length === 2);
  assert.ok(seen, client.seen.join(" "));
  assert.deepEqual(
    client.seen.filter((each) => /GOAWAY|CLOSED|RST/.test(each)),
    [],
  );
  client.socket.destroy();
});

test("3.4: what does not begin with the preface is closed", async () => {
  const client = await FrameClient.open(house, false);
  client.send(Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  assert.ok((await client.until(/^CLOSED/)).includes("CLOSED"));
});

const flood = async (frames: readonly Uint8Array[]) => {
  const client = await FrameClient.open(house);
  const seen = await client.send(...frames).until(/^GOAWAY/);
  client.socket.destroy();
  return seen.find((s) => s.startsWith("GOAWAY"));
};

test("rapid resets, pings, settings, empty data and endless headers end with ENHANCE_YOUR_CALM", async () => {
  const times = (make: (i: number) => Uint8Array[]) => Array.from({ length: 500 }, (_, i) => make(i)).flat();
  assert.equal(await flood(times((i) => [headers(2 * i + 1), frame(RST_STREAM, 0, 2 * i + 1, u32(8))])), "GOAWAY(11)");
  assert.equal(await flood(times(() => [frame(PING, 0, 0, Buffer.alloc(8))])), "GOAWAY(11)");
  assert.equal(await flood(times(() => [frame(SETTINGS, 0, 0)])), "GOAWAY(11)");
  assert.equal(await flood([post(1), ...times(() => [frame(DATA, 0, 1)])]), "GOAWAY(11)");
  const endless = times((i) => [frame(CONTINUATION, 0, 1, block([[`x-${i}`, "y".repeat(100)]]))]);
  assert.equal(await flood([open, ...endless]), "GOAWAY(11)");
});

test("5.1.2: more streams than allowed are refused one by one, and the others answered", async () => {
  const client = await FrameClient.open(house);
  client.send(...Array.from({ length: 130 }, (_, i) => post(2 * i + 1)));
  const seen = await client.until(/^RST\(259,7\)$/);
  assert.ok(seen.includes("RST(257,7)"));
  client.socket.destroy();
});
