/** WebSockets that end at the door, clause by clause of RFC 6455: frames against bytes, and an echo against a real client. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { WebSocket } from "ws";
import { switching } from "../upstream/handshake.ts";
import { closePayload, FrameReader, OPCODE, WebSocketFault, writeFrame } from "./frames.ts";
import { Session } from "./session.ts";

const SEED = 6_455;
const BYTES_MAX = 1_048_576;

interface Sent {
  readonly opcode: number;
  readonly data?: Uint8Array | string;
  readonly fin?: boolean;
  readonly rsv?: number;
  readonly mask?: Buffer | null;
}

/** Writes a frame as a client does. */
function frame({ opcode, data = "", fin = true, rsv = 0, mask = Buffer.from([1, 2, 3, 4]) }: Sent): Buffer {
  const payload = Buffer.from(data as string);
  const whole = writeFrame(opcode, payload);
  whole[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  if (!mask) return whole;
  const head = whole.length - payload.length;
  whole[1] |= 0x80;
  const masked = payload.map((byte, i) => byte ^ mask[i & 3]);
  return Buffer.concat([whole.subarray(0, head), mask, masked]);
}

/** What a reader makes of bytes that come in pieces of this size, until it ends the connection. */
function read(bytes: Buffer, pieceBytes = bytes.length, messageBytesMax = BYTES_MAX): unknown[] {
  const told: unknown[] = [];
  const note = (kind: string) => (data: Buffer) => void told.push([kind, data.toString("latin1")]);
  const handler = {
    message: (data: Buffer, isText: boolean) => void told.push([isText ? "text" : "binary", data.toString("latin1")]),
    ping: note("ping"),
    pong: note("pong"),
    close: (code: number, reason: string) => void told.push(["close", code, reason]),
  };
  const reader = new FrameReader({ masked: true, messageBytesMax, handler });
  try {
    for (let at = 0; at < bytes.length; at += pieceBytes) reader.feed(bytes.subarray(at, at + pieceBytes));
  } catch (error) {
    assert.ok(error instanceof WebSocketFault, String(error));
    told.push(error.code);
  }
  return told;
}

const { continuation, text, binary, close, ping, pong } = OPCODE;
const utf8 = (given: string) => Buffer.from(given).toString("latin1");

test("what breaks the protocol ends with the code that the clause names", () => {
  const code = (value: number, reason: Uint8Array | string = "") => {
    const payload = Buffer.alloc(2 + reason.length);
    payload.writeUInt16BE(value);
    payload.set(Buffer.from(reason as string), 2);
    return frame({ opcode: close, data: payload });
  };
  const longer = Buffer.from([0x82, 0xfe, 0, 5, 0, 0, 0, 0]);
  const longest = Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
  const negative = Buffer.from([0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
  const huge = Buffer.from([0x82, 0xff, 0x00, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
  const cases: readonly (readonly [clause: string, bytes: Buffer, code: number])[] = [
    ...[1, 2, 4, 7].map((rsv) => ["5.2 reserved bits", frame({ opcode: text, rsv }), 1002] as const),
    ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode) => ["5.2 opcode", frame({ opcode }), 1002] as const),
    ["5.1 not masked", frame({ opcode: text, mask: null }), 1002],
    ["5.2 a length not in its shortest form", longer, 1002],
    ["5.2 the same with 64 bits", longest, 1002],
    ["5.2 the first bit of 64", negative, 1002],
    ["10.4 a larger message than is taken", huge, 1009],
    ["5.4 a continuation of nothing", frame({ opcode: continuation }), 1002],
    [
      "5.4 a message within a message",
      Buffer.concat([text, text].map((opcode) => frame({ opcode, fin: false }))),
      1002,
    ],
    ["5.5 a ping in parts", frame({ opcode: ping, fin: false }), 1002],
    ["5.5 a close in parts", frame({ opcode: close, fin: false }), 1002],
    ["5.5 a ping of 126 bytes", frame({ opcode: ping, data: Buffer.alloc(126) }), 1002],
    ["5.5.1 half a code", frame({ opcode: close, data: "x" }), 1002],
    ["5.5.1 a reason that is no text", code(1000, Buffer.from([0xff])), 1007],
    ...[0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535].map(
      (value) => ["7.4 a code that does not go over the wire", code(value), 1002] as const,
    ),
    ["8.1 a text that is none", frame({ opcode: text, data: Buffer.from([0xce, 0xba, 0xff]) }), 1007],
    ["8.1 a text that ends in a letter", frame({ opcode: text, data: Buffer.from([0xce]) }), 1007],
    ["8.1 a surrogate", frame({ opcode: text, data: Buffer.from([0xed, 0xa0, 0x80]) }), 1007],
    ["8.1 beyond Unicode", frame({ opcode: text, data: Buffer.from([0xf4, 0x90, 0x80, 0x80]) }), 1007],
    ["8.1 too long a form", frame({ opcode: text, data: Buffer.from([0xc0, 0xaf]) }), 1007],
  ];
  for (const [clause, bytes, expected] of cases)
    for (const piece of [bytes.length, 1]) assert.deepEqual(read(bytes, piece).at(-1), expected, clause);
});

test("text that is wrong is refused before its message has come to an end (8.1)", () => {
  const first = frame({ opcode: text, fin: false, data: Buffer.from([0xce, 0xba, 0xf4, 0x90]) });
  assert.deepEqual(read(first), [1007]);
  const whole = frame({ opcode: text, data: Buffer.from([0x61, 0xf4, 0x90, 0x61, 0x61]) });
  assert.deepEqual(read(whole.subarray(0, whole.length - 2)), [1007]);
});

test("letters may be split between frames, and control frames come between them (5.4, 5.5)", () => {
  const bytes = Buffer.concat([
    frame({ opcode: text, fin: false, data: Buffer.from([0xce]) }),
    frame({ opcode: ping, data: "now" }),
    frame({ opcode: continuation, fin: false }),
    frame({ opcode: continuation, fin: false, data: Buffer.from([0xba, 0xe1]) }),
    frame({ opcode: pong }),
    frame({ opcode: continuation, data: Buffer.from([0xbd, 0xb9]) }),
    frame({ opcode: close, data: closePayload(1000, "über") }),
    frame({ opcode: text, data: "after the end" }),
  ]);
  const told = [
    ["ping", "now"],
    ["pong", ""],
    ["text", utf8("κό".normalize("NFD").slice(0, 1)) + "\xe1\xbd\xb9"],
  ];
  for (const piece of [bytes.length, 1, 3]) assert.deepEqual(read(bytes, piece), [...told, ["close", 1000, "über"]]);
  assert.deepEqual(read(frame({ opcode: close })), [["close", 1005, ""]]);
});

test("every code that may be sent is taken (7.4)", () => {
  for (const code of [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999])
    assert.deepEqual(read(frame({ opcode: close, data: closePayload(code, "") })), [["close", code, ""]]);
});

test("messages come out as they went in, however they are cut into frames and pieces; garbage ends with a code", () => {
  const piece = fc.integer({ min: 1, max: 40 });
  const part = fc.uint8Array({ maxLength: 140 });
  const message = fc.record({ isText: fc.boolean(), word: fc.string({ unit: "grapheme" }), parts: fc.array(part) });
  const framesOf = ({ isText, word, parts }: { isText: boolean; word: string; parts: Uint8Array[] }) => {
    const data = isText ? Buffer.from(word) : Buffer.concat(parts);
    const cuts = isText ? [...data].map((byte) => Buffer.from([byte])) : parts;
    const all = cuts.length === 0 ? [Buffer.alloc(0)] : cuts;
    const bytes = all.map((each, i) => {
      const opcode = i > 0 ? continuation : isText ? text : binary;
      return frame({ opcode, fin: i === all.length - 1, data: each, mask: Buffer.from([i, 7, 255, 0]) });
    });
    return { bytes: Buffer.concat(bytes), told: [isText ? "text" : "binary", data.toString("latin1")] };
  };
  fc.assert(
    fc.property(fc.array(message, { maxLength: 5 }), piece, (messages, size) => {
      const sent = messages.map(framesOf);
      const told = read(Buffer.concat(sent.map(({ bytes }) => bytes)), size);
      assert.deepEqual(
        told,
        sent.map((each) => each.told),
      );
    }),
    { seed: SEED, numRuns: 200 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 300 }), piece, (bytes, size) => {
      assert.deepEqual(read(Buffer.from(bytes), size), read(Buffer.from(bytes), 1));
    }),
    { seed: SEED, numRuns: 2_000 },
  );
});

test("a message in many small frames costs what it has, not what its frames are", () => {
  const one = frame({ opcode: continuation, fin: false, data: "x" });
  const bytes = Buffer.concat([frame({ opcode: binary, fin: false }), ...new Array<Buffer>(300_000).fill(one)]);
  const empty = process.memoryUsage();
  assert.deepEqual(read(bytes, 65_536), []);
  const full = process.memoryUsage();
  assert.ok(full.arrayBuffers - empty.arrayBuffers < 8_000_000);
  assert.deepEqual(read(bytes, 65_536, 100_000), [1009]);
});

// An echo, as the door would be one.
const server = createServer();
const sessions = new Set<Session>();
before(async () => {
  server.on("upgrade", (request, socket: Socket, head: Buffer) => {
    const key = String(request.headers["sec-websocket-key"]);
    const { headers, switched } = switching(key, undefined, ({ rest }) => {
      const session: Session = new Session(
        {
          socket,
          messageBytesMax: BYTES_MAX,
          idleMs: request.url === "/idle" ? 200 : 60_000,
          message: (data, isText) => void session.send(data, isText),
          over: () => sessions.delete(session),
        },
        rest,
      );
      sessions.add(session);
    });
    const lines = headers.map((value, i) => value + (i % 2 === 0 ? ": " : "\r\n")).join("");
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines}\r\n`);
    switched!({ socket, rest: head });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});
after(() => {
  server.closeAllConnections();
  server.close();
});

const port = () => (server.address() as AddressInfo).port;

test("a real client has its messages back, its pings answered, and its close (4.2.2, 5.5, 7.1)", async () => {
  const ws = new WebSocket(`ws://127.0.0.1:${port()}/`, { perMessageDeflate: true });
  await once(ws, "open");
  assert.equal(ws.extensions, "");
  for (const data of ["", "κόσμε", "x".repeat(65_535), Buffer.alloc(65_536, 7), Buffer.alloc(BYTES_MAX)]) {
    ws.send(data);
    const [got, isBinary] = (await once(ws, "message")) as [Buffer, boolean];
    assert.ok(got.equals(Buffer.from(data)) && isBinary === Buffer.isBuffer(data));
  }
  ws.ping("here");
  assert.equal(String((await once(ws, "pong"))[0]), "here");
  ws.close(3001, "done");
  assert.deepEqual((await once(ws, "close")).map(String), ["3001", ""]);
  assert.equal(sessions.size, 0);
});

/** A client that sends whatever bytes one likes, behind its handshake and at once. */
async function raw(path: string, bytes: Buffer): Promise<Socket> {
  const socket = connect(port(), "127.0.0.1");
  const key = Buffer.alloc(16).toString("base64");
  const head = `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: ${key}\r\n\r\n`;
  socket.write(Buffer.concat([Buffer.from(head), bytes]));
  return socket;
}

async function allOf(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  const all = Buffer.concat(chunks);
  return all.subarray(all.indexOf("\r\n\r\n") + 4);
}

test("what comes with the handshake is read; after a fault the code is told and the connection ends (7.1.7)", async () => {
  const sent = Buffer.concat([frame({ opcode: text, data: "early" }), frame({ opcode: 3 }), frame({ opcode: text })]);
  const answer = await allOf(await raw("/", sent));
  assert.equal(answer.subarray(0, 7).toString(), "\x81\x05early".replace("\x81", "\ufffd"));
  assert.deepEqual([answer[7], answer.readUInt16BE(9)], [0x88, 1002]);
});

test("one of which nothing is heard is asked, and then cut (5.5.2)", async () => {
  const answer = await allOf(await raw("/idle", Buffer.alloc(0)));
  assert.deepEqual([...answer], [0x89, 0]);
});

test("a client that asks on and takes no answers is read no further: what waits for it is bounded", async () => {
  const big = frame({ opcode: binary, data: Buffer.alloc(200_000) });
  const socket = await raw("/", Buffer.alloc(0));
  socket.pause();
  let waiting = 0;
  // Once the kernel's buffers are full nothing is taken from here any more.
  for (let n = 0; n < 400 && waiting < 20_000_000; n++) {
    socket.write(big);
    waiting = socket.writableLength;
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(waiting > 1_000_000, `${waiting} bytes wait at the client`);
  const [session] = sessions;
  assert.equal(await Promise.race([session.drained.then(() => "drained"), Promise.resolve("waits")]), "waits");
  const over = once(socket, "close");
  socket.destroy();
  await over;
  await session.drained;
});
