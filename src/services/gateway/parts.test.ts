/** The parts of the door that need no socket: the target's path, the routes, the limits, the answers' parser, the table. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Route } from "../../kernel/contract.ts";
import { Failure } from "../../kernel/error.ts";
import { AnswerError, AnswerParser } from "../../kernel/http/answer-parser.ts";
import { readHead } from "./headers.ts";
import { Instances } from "./upstream/instances.ts";
import { clientOf, Limiter } from "./shape/limiter.ts";
import { Limits } from "./shape/limits.ts";
import { Metrics as Counted } from "../../kernel/metrics/metrics.ts";
import { writeMetrics } from "../../kernel/metrics/openmetrics.ts";
import { Metrics } from "./metrics.ts";
import { RouteTable } from "./routes/table.ts";
import { readTarget } from "./routes/target.ts";
import type { Instance } from "../registry/api.ts";

test("whatever a path's segments are, they are read as they were written, and written in one way", () => {
  const segment = fc
    .string({ unit: "grapheme", minLength: 1, maxLength: 20 })
    .filter((s) => /^[^\p{Cc}/\\%]+$/u.test(s) && !/^\.+$/.test(s));
  fc.assert(
    fc.property(fc.array(segment, { minLength: 1, maxLength: 6 }), (segments) => {
      const written = `/${segments.map(encodeURIComponent).join("/")}`;
      const target = readTarget(`${written}?a=b`, "x");
      assert.deepEqual([target.segments, target.query], [segments, "?a=b"]);
      assert.deepEqual(readTarget(target.path, "x").segments, segments);
    }),
    { seed: 7, numRuns: 300 },
  );
});

test("no target ends in anything but a path in its one spelling or a refusal", () => {
  const piece = fc.constantFrom(
    "/",
    ".",
    "..",
    "%2e",
    "%2E",
    "%2f",
    "%5c",
    "%25",
    "%252e",
    "%00",
    "%c0%ae",
    "\\",
    "a",
    "?",
    "#",
    "%",
    "é",
    "//",
    ";",
    "https://x",
    "@",
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      let target;
      try {
        target = readTarget(`/${pieces.join("")}`, "x");
      } catch (error) {
        assert.ok(error instanceof Failure && error.status === 400, String(error));
        return;
      }
      // What anybody behind would make of it: no resolving changes it.
      assert.equal(new URL(`https://x${target.path}`).pathname, target.path);
      assert.deepEqual(target.path.split("/").slice(1).map(decodeURIComponent), target.segments);
      assert.doesNotMatch(target.path, /%00|%2e%2e|\/\.\.?(\/|$)/i);
    }),
    { seed: 7, numRuns: 2_000 },
  );
});

test("routes are found by method and template, literals first, one method's never hiding another's", () => {
  const table = new RouteTable((service) => () => ({ status: 200, headers: [], body: Buffer.from(service) }));
  const route = (method: Route["method"], path: string): Route => ({
    method,
    path,
    operation: `${method} ${path}`,
    scope: "a:b",
    timeoutMs: 1,
    safe: true,
  });
  table.set("s", [
    route("GET", "/a/:x"),
    route("GET", "/a/all"),
    route("DELETE", "/a/:x"),
    route("GET", "/a/:x/b/:y"),
    route("GET", "/a/all/c"),
    route("POST", "/"),
  ]);
  const find = (method: string, path: string) => table.find(method, path.split("/"))?.route.operation;
  assert.equal(find("GET", "s/a/all"), "GET /a/all");
  assert.equal(find("GET", "s/a/one"), "GET /a/:x");
  assert.equal(find("HEAD", "s/a/one"), "GET /a/:x");
  assert.equal(find("DELETE", "s/a/all"), "DELETE /a/:x");
  assert.equal(find("GET", "s/a/all/b/1"), "GET /a/:x/b/:y");
  for (const path of ["s", "s/", "s/a", "s/a/", "s/a/1/2", "t/a/1", "s/a/all/b/1/"])
    assert.equal(find("GET", path), undefined, path);
  assert.deepEqual(table.allowed(["s", "a", "all"]), ["GET", "HEAD", "DELETE"]);
});

test("a limiter lets a burst through, then one at a time, and forgets only what is whole again", () => {
  let nowMs = 0;
  const clock = { monotonicMs: () => nowMs, wallMs: () => 0, wallNs: () => 0n };
  const limiter = new Limiter({ requestsPerS: 10, burst: 3, keysMax: 2, clock });
  assert.deepEqual(
    [1, 2, 3, 4].map(() => limiter.take("a").remaining),
    [2, 1, 0, 0],
  );
  assert.deepEqual(limiter.take("a"), { allowed: false, remaining: 0, waitMs: 100 });
  nowMs = 100;
  assert.equal(limiter.take("a").allowed, true);
  assert.equal(limiter.take("a").allowed, false);
  for (const key of ["b", "c", "d"]) limiter.take(key);
  assert.ok(limiter.size <= 2);
  nowMs = 1_000;
  for (let i = 0; i < 100_000; i++, nowMs += 100) assert.equal(limiter.take("e").allowed, true);
});

test("what another process let through is paid for here, and a change of the routes forgives nothing", () => {
  let nowMs = 0;
  const limits = new Limits({ monotonicMs: () => nowMs, wallMs: () => 0, wallNs: () => 0n });
  const terms = { requestsPerS: 10, burst: 3, keysMax: 10 };
  const told: unknown[] = [];
  limits.onCount = (...count) => void told.push(count);
  const limiter = limits.of("r address", terms);
  assert.equal(limiter.take("a").remaining, 2);
  assert.deepEqual(told, [["r address 10/3", "a", 2]]);
  limits.learn([{ limit: "r address 10/3", key: "a", count: 4 }], []);
  assert.deepEqual(limiter.peek("a"), { allowed: false, remaining: 0, waitMs: 300 });
  assert.equal(told.length, 1, "what was learnt is not told again");
  assert.deepEqual([...limits.debts()], [{ limit: "r address 10/3", key: "a", ms: 500 }]);
  nowMs = 100;
  limits.learn([], [{ limit: "r address 10/3", key: "a", ms: 350 }]);
  assert.equal(limiter.peek("a").waitMs, 200, "a debt that is known already is not one more");
  limits.renew(() => assert.equal(limits.of("r address", terms), limiter));
  const always = limits.always("address", terms);
  limits.renew(() => assert.notEqual(limits.of("r address", { ...terms, burst: 4 }), limiter));
  assert.notEqual(limits.of("r address", terms), limiter, "no route has it any more");
  assert.equal(limits.of("address", terms), always);
});

test("a client is an IPv4 address, however it is written, or an IPv6 network", () => {
  assert.equal(clientOf("10.0.0.1"), "10.0.0.1");
  assert.equal(clientOf("::ffff:10.0.0.1"), "10.0.0.1");
  assert.equal(clientOf("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
  assert.equal(clientOf("2001:db8::6"), "2001:db8:0:0::/64");
  assert.equal(clientOf("::1"), "0:0:0:0::/64");
  assert.equal(clientOf("fe80::1%eth0"), "fe80:0:0:0::/64");
});

test("what Connection names goes no further, and nothing is taken for a header of ours", () => {
  const { passed } = readHead(
    [
      "Host",
      "a",
      "Connection",
      "X-Mine, close",
      "X-Mine",
      "1",
      "Content-Type",
      "text/plain",
      "x_forwarded_for",
      "1",
      "X-Holdfast-Any",
      "1",
      "Cookie",
      "a=b",
    ],
    "1.1",
  );
  assert.equal(passed, "content-type: text/plain\r\ncookie: a=b\r\n");
});

interface Seen {
  readonly status: number;
  readonly body: string;
}

function parse(
  chunks: readonly Buffer[],
  answers: number,
  bodyless = false,
): { seen: Seen[]; reusable: boolean; parser: AnswerParser<{ headers: readonly string[] }> } {
  const seen: { status: number; body: string }[] = [];
  let ended = 0;
  const parser: AnswerParser<{ headers: readonly string[] }> = new AnswerParser({
    said: (headers) => ({ headers }),
    interim: () => undefined,
    head: (status) => void seen.push({ status, body: "" }),
    data: (chunk) => void (seen[seen.length - 1].body += chunk.toString("latin1")),
    end: () => {
      if (++ended < answers) parser.begin(bodyless);
    },
  });
  parser.begin(bodyless);
  for (const chunk of chunks) parser.feed(chunk);
  return { seen, reusable: parser.reusable, parser };
}

test("answers are read the same however their bytes are cut", () => {
  const text =
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" +
    "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: x\r\n\r\n" +
    "HTTP/1.1 204 No Content\r\n\r\n" +
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n" +
    "HTTP/1.1 404 \r\ncontent-length: 0\r\n\r\n";
  const expected = [
    { status: 200, body: "hello" },
    { status: 201, body: "abcde" },
    { status: 204, body: "" },
    { status: 304, body: "" },
    { status: 404, body: "" },
  ];
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: text.length }), { maxLength: 30 }), (cuts) => {
      const at = [0, ...cuts.sort((a, b) => a - b), text.length];
      const { seen, reusable } = parse(
        at.slice(1).map((to, i) => Buffer.from(text.slice(at[i], to), "latin1")),
        5,
      );
      assert.deepEqual(seen, expected);
      assert.equal(reusable, true);
    }),
    { seed: 7, numRuns: 500 },
  );
});

test("an answer that is framed in two ways, or in none that is known, is an error; one without length ends with its connection", () => {
  for (const text of [
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    "HTTP/2 200 OK\r\n\r\n",
    "HTTP/1.1 99 x\r\n\r\n",
    "HTTP/1.1 101 x\r\n\r\n",
    "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nab\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
    `HTTP/1.1 200 OK\r\n${"A: b\r\n".repeat(20_000)}`,
  ])
    assert.throws(() => parse([Buffer.from(text, "latin1")], 1), AnswerError, text.slice(0, 80));
  const open = parse([Buffer.from("HTTP/1.1 200 OK\r\n\r\nab")], 1);
  assert.equal(open.parser.close(), true);
  assert.deepEqual([open.seen, open.reusable], [[{ status: 200, body: "ab" }], false]);
  assert.equal(parse([Buffer.from("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab")], 1).parser.close(), false);
  assert.equal(
    parse([Buffer.from("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n")], 1).reusable,
    false,
  );
  assert.equal(parse([Buffer.from("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")], 1).reusable, false);
});

const instance = (service: string, name: string): Instance => ({
  service,
  instance: name,
  host: "h",
  port: 1,
  pid: 1,
  version: "0",
  startedAtMs: 0,
  state: "passing",
  routes: [],
});

test("a registry that was restarted and knows nobody yet takes nobody away, until it has had its time", () => {
  const instances = new Instances();
  const names = () =>
    instances
      .of("s")
      .map((k) => `${k.instance.instance}${k.confirmed ? "" : "?"}`)
      .sort();
  instances.apply({ revision: 1, kind: "snapshot", instances: [instance("s", "a"), instance("s", "b")] });
  assert.ok(instances.heard);
  instances.begin();
  instances.apply({ revision: 1, kind: "snapshot", instances: [] });
  assert.deepEqual(names(), ["a?", "b?"]);
  instances.apply({ revision: 2, kind: "up", instances: [instance("s", "b")] });
  assert.deepEqual(names(), ["a?", "b"]);
  instances.settle();
  assert.deepEqual(names(), ["b"]);
  instances.apply({ revision: 3, kind: "snapshot", instances: [] });
  assert.deepEqual(names(), [], "a further snapshot of the same stream is believed");
});

test("percentiles and the buckets of Prometheus tell the same durations", () => {
  const counted = new Counted();
  const metrics = new Metrics(counted);
  for (let us = 1; us <= 10_000; us++) metrics.finished("s", "o", 200, us);
  metrics.finished("s", "o", 500, 1e12);
  const [row] = metrics.routes();
  assert.ok(Math.abs(row.p50Us - 5_000) < 500 && Math.abs(row.p99Us - 9_900) < 900, JSON.stringify(row));
  const text = writeMetrics([{ service: "gateway", instance: "g", families: counted.families() }], "prometheus");
  assert.match(text, /le="0.00390625"\} 3906\n/);
  assert.match(text, /le="16.0"\} 10000\n/);
  assert.match(text, /le="\+Inf"\} 10001\n/);
});
