/** gRPC behind the door: a server of its own library, and one by hand that answers as none should. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Http2Server, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fromJson, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { type GatewayHouse, RawClient, startGateway } from "../../../../test/houses/gateway.ts";
import { need } from "../../../../test/need.ts";
import { statusIn } from "./status.ts";

const field = (name: string, number: number, type: string) => ({
  name,
  number,
  type,
  label: "LABEL_OPTIONAL",
  jsonName: name,
});
const method = (name: string, more: object = {}) => ({
  name,
  inputType: ".greet.Hello",
  outputType: ".greet.Said",
  ...more,
});
const descriptors = toBinary(
  FileDescriptorSetSchema,
  fromJson(FileDescriptorSetSchema, {
    file: [
      {
        name: "greet.proto",
        package: "greet",
        syntax: "proto3",
        messageType: [
          { name: "Hello", field: [field("name", 1, "TYPE_STRING"), field("number", 2, "TYPE_INT64")] },
          {
            name: "Said",
            field: [
              field("text", 1, "TYPE_STRING"),
              field("number", 2, "TYPE_INT64"),
              field("left", 3, "TYPE_DOUBLE"),
              field("raw", 4, "TYPE_BYTES"),
            ],
          },
        ],
        service: [
          {
            name: "Greeter",
            method: [
              method("Say"),
              method("Count", { serverStreaming: true }),
              method("Tell", { clientStreaming: true }),
            ],
          },
        ],
      },
    ],
  }),
);

let house: GatewayHouse;
let server: ChildProcess | undefined;
const odd: Http2Server = createServer();
/** What the server by hand does with the next call. */
let oddly: (stream: ServerHttp2Stream, headers: Record<string, unknown>) => void;
const skip = need("grpc");

before(async () => {
  house = await startGateway();
  const directory = join(house.directoryOf("gateway"), "grpc");
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "greet.pb"), descriptors);
  writeFileSync(join(directory, "broken.pb"), "no descriptors");
  odd.on("stream", (stream: ServerHttp2Stream, headers) => {
    stream.on("error", () => undefined);
    oddly(stream, headers);
  });
  odd.listen(0, "127.0.0.1");
  await once(odd, "listening");
  let port = 9;
  if (skip === false) {
    server = spawn(
      "/usr/bin/python3",
      [join(import.meta.dirname, "../../../../test/houses/greeter.py"), join(directory, "greet.pb")],
      {
        stdio: ["pipe", "pipe", "inherit"],
      },
    );
    const [line] = (await once(server.stdout!, "data")) as [Buffer];
    port = Number(line);
  }
  const to = (upstream: string, name: string, file = "greet.pb") => ({
    upstream,
    method: `greet.Greeter/${name}`,
    descriptors: file,
  });
  const route = (name: string, grpc: object, more: object = {}) => ({
    name,
    match: { path: name === "greet" ? "/greet/{method}" : `/${name}` },
    access: "public",
    timeoutMs: 5_000,
    grpc,
    ...more,
  });
  house.routes({
    upstreams: {
      greeter: { urls: [`http://127.0.0.1:${port}`] },
      odd: { urls: [`http://127.0.0.1:${(odd.address() as AddressInfo).port}`] },
      none: { urls: ["http://127.0.0.1:9"] },
    },
    routes: [
      route("greet", to("greeter", "{method}")),
      route("open", to("greeter", "Say"), { errors: "pass" }),
      route("odd", to("odd", "Say")),
      route("slow", to("odd", "Say"), { timeoutMs: 150 }),
      route("none", to("none", "Say")),
      route("broken", to("odd", "Say", "broken.pb")),
      route("lacking", to("odd", "Say", "lacking.pb")),
    ],
  });
});
after(async () => {
  server?.stdin?.end();
  await house.stop();
  odd.close();
});

async function post(path: string, body: string) {
  const client = await RawClient.open(house);
  const length = `Content-Length: ${Buffer.byteLength(body)}`;
  client.send(`POST ${path} HTTP/1.1\r\nHost: x\r\n${length}\r\n\r\n${Buffer.from(body).toString("latin1")}`);
  const answer = await client.answer();
  client.socket.destroy();
  return { ...answer, said: answer.body.startsWith("{") ? (JSON.parse(answer.body) as Record<string, unknown>) : {} };
}

/** The body of an answer that comes in chunks. */
async function streamed(path: string, body: string, headers = ""): Promise<string> {
  const client = await RawClient.open(house);
  client.send(
    `POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${headers}Content-Length: ${body.length}\r\n\r\n${body}`,
  );
  const text = await client.end();
  return text
    .slice(text.indexOf("\r\n\r\n") + 4)
    .replaceAll(/(^|\r\n)[0-9a-f]+\r\n/g, "")
    .replace(/(\r\n)+$/, "");
}

test(
  "a message goes in and out as JSON: 64 bits exact, bytes as base64, and the time that is left goes along",
  { skip },
  async () => {
    const { status, said, headers } = await post("/greet/Say", '{"name":"é","number":9223372036854775807}');
    assert.equal(status, 200, JSON.stringify(said));
    assert.equal(headers["content-type"], "application/json");
    const { left, ...rest } = said;
    // The client of the test reads bytes as Latin-1.
    assert.deepEqual(rest, { text: "hello Ã©", number: "9223372036854775807", raw: "/wA=" });
    assert.ok(Number(left) > 1 && Number(left) <= 5, String(left));
    assert.equal((await post("/greet/Say", "")).said["text"], "hello ");
  },
);

test(
  "every code of gRPC is the status that google.rpc has for it; of the inside nothing is told unless the route says so",
  { skip },
  async () => {
    const statuses = [499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
    for (const [at, expected] of statuses.entries()) {
      const { status, said } = await post("/greet/Say", `{"name":"code ${at + 1}"}`);
      assert.equal(status, expected, String(at + 1));
      const inside = [2, 13, 15].includes(at + 1);
      assert.equal(said["message"], inside ? "the service failed" : "of the inside: Ã©");
    }
    const open = await post("/open", '{"name":"code 13"}');
    assert.deepEqual([open.said["code"], open.said["message"]], ["GRPC_INTERNAL", "of the inside: Ã©"]);
  },
);

test(
  "a stream is a line of JSON each, or an event; what ends it is told last, or is the status",
  { skip },
  async () => {
    const lines = (await streamed("/greet/Count", '{"name":"n","number":3}')).trim().split("\n");
    assert.deepEqual(
      lines.map((line) => (JSON.parse(line) as { text: string }).text),
      ["n 0", "n 1", "n 2"],
    );
    // No time goes along: what listens may listen on.
    assert.ok(lines.every((line) => line.includes('"left":-1')));
    const events = await streamed("/greet/Count", '{"name":"abort","number":9}', "Accept: text/event-stream\r\n");
    assert.match(
      events,
      /^(data: \{"text":"abort [01]","left":-1\}\n\n){2}event: error\ndata: \{"error":\{"code":"RESOURCE_EXHAUSTED","message":"enough"\}\}\n\n$/,
    );
    assert.equal(await streamed("/greet/Count", '{"name":"none"}'), "");
  },
);

test("what is no message, no method, or no POST is refused before anybody is asked", async () => {
  const refused = await post("/odd", '{"nome":"x"}');
  assert.deepEqual([refused.status, refused.said["code"]], [400, "GATEWAY_GRPC_MESSAGE"]);
  assert.match(String(refused.said["message"]), /greet\.Hello/);
  for (const name of ["Nothing", "Tell"]) assert.equal((await post(`/greet/${name}`, "{}")).status, 404);
  const client = await RawClient.open(house);
  assert.equal((await client.send("GET /odd HTTP/1.1\r\nHost: x\r\n\r\n").answer()).status, 405);
  client.socket.destroy();
  for (const path of ["/broken", "/lacking"]) {
    const { status, said } = await post(path, "{}");
    assert.deepEqual([status, said["code"]], [503, "GATEWAY_GRPC_DESCRIPTORS"]);
  }
  assert.equal((await post("/none", "{}")).status, 503);
});

test("a server that answers as none should is 502, one that is silent 504, and then its call is cancelled", async () => {
  const grpc = { ":status": 200, "content-type": "application/grpc" };
  const ended = (stream: ServerHttp2Stream, bytes: Buffer, trailers = { "grpc-status": "0" }) => {
    stream.respond(grpc, { waitForTrailers: true });
    stream.once("wantTrailers", () => stream.sendTrailers(trailers));
    stream.end(bytes);
  };
  const empty = Buffer.alloc(5);
  const answers: readonly ((stream: ServerHttp2Stream) => void)[] = [
    (stream) => stream.respond({ ":status": 404 }, { endStream: true }),
    (stream) => stream.respond({ ":status": 200, "content-type": "text/html" }, { endStream: true }),
    (stream) => ended(stream, Buffer.alloc(0)),
    (stream) => ended(stream, Buffer.concat([empty, empty])),
    (stream) => ended(stream, Buffer.from([1, 0, 0, 0, 0])),
    (stream) => ended(stream, Buffer.from([0, 0xff, 0, 0, 0])),
    (stream) => ended(stream, Buffer.from([0, 0, 0, 0, 9, 1])),
    (stream) => ended(stream, Buffer.from([0, 0, 0, 0, 1, 0xff])),
    (stream) => stream.close(2),
  ];
  for (const [at, answer] of answers.entries()) {
    oddly = answer;
    const { status, said } = await post("/odd", "{}");
    assert.deepEqual([status, said["code"]], [502, "GATEWAY_UPSTREAM_FAILED"], `answer ${at}`);
  }
  oddly = (stream) => ended(stream, empty, {} as never);
  assert.equal((await post("/odd", "{}")).said["code"], "GRPC_UNKNOWN");
  oddly = (stream) => stream.respond({ ...grpc, "grpc-status": "5", "grpc-message": "no%20such" }, { endStream: true });
  const missing = await post("/odd", "{}");
  assert.deepEqual([missing.status, missing.said["message"]], [404, "no such"]);
  const cancelled = new Promise<number>((resolve) => {
    oddly = (stream, headers) => {
      assert.match(String(headers["grpc-timeout"]), /^1?\d?\d?m$/);
      stream.once("close", () => resolve(stream.rstCode));
    };
  });
  assert.equal((await post("/slow", "{}")).status, 504);
  assert.equal(await cancelled, 8);
});

test("a message of a status is percent-encoded, and what is broken is left as it came", () => {
  assert.equal(statusIn({ "grpc-status": "5", "grpc-message": "%C3%A9%20x" }).said, "é x");
  assert.equal(statusIn({ "grpc-status": "5", "grpc-message": "50% off" }).said, "50% off");
  for (const wrong of ["", "x", "-1", "99"]) assert.equal(statusIn({ "grpc-status": wrong }).name, "UNKNOWN");
});
