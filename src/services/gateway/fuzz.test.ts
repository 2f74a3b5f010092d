/** What reads bytes of strangers, fed with anything: it refuses or reads, in one way however the bytes are cut, and never breaks. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { systemClock } from "../../kernel/clock.ts";
import { Failure } from "../../kernel/error.ts";
import { type Asked, rangeOf } from "./cache/asked.ts";
import { readDate, readDirectives, readNames, readSeconds } from "./cache/directives.ts";
import { Entry, judge } from "./cache/entry.ts";
import { blameClient, FrameGuard } from "./front/frame-guard.ts";
import { readHead } from "./headers.ts";
import { checkHost, readTarget } from "./routes/target.ts";
import { judge as judgeConditions, readRange } from "./static/conditions.ts";
import { encodingOf } from "./static/encoding.ts";
import { AnswerError, AnswerParser } from "../../kernel/http/answer-parser.ts";

const RUNS = { seed: 11, numRuns: 2_000 };
const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((each) => Buffer.from(each));
/** Text of pieces that mean something here, and of anything else. */
const textOf = (pieces: readonly string[]) =>
  fc
    .array(fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...pieces) }, fc.string({ maxLength: 4 })), {
      maxLength: 16,
    })
    .map((parts) => parts.join(""));

/** Cuts bytes in places, and feeds the parts. */
function cut(whole: Buffer, places: readonly number[], feed: (part: Buffer) => void): void {
  const at = [0, ...places.map((place) => place % (whole.length + 1)).sort((a, b) => a - b), whole.length];
  for (let i = 1; i < at.length; i++) if (at[i] > at[i - 1]) feed(whole.subarray(at[i - 1], at[i]));
}
/** The head of a frame, and of its payload what is looked at. */
const LOOKED_AT = 9 + 192;
const places = fc.array(fc.nat(4_096), { maxLength: 8 });

const ANSWER = [
  "HTTP/1.1 200 OK\r\n",
  "HTTP/1.0 404 \r\n",
  "HTTP/1.1 103 Early Hints\r\n",
  "HTTP/1.1 204 No Content\r\n",
  "Content-Length: 3\r\n",
  "Content-Length: 03\r\n",
  "Content-Length: -1\r\n",
  "Transfer-Encoding: chunked\r\n",
  "Connection: close\r\n",
  " folded\r\n",
  "\r\n",
  "\n",
  "abc",
  "3\r\nabc\r\n",
  "0\r\n\r\n",
  "3;x=y\r\n",
];

/** What comes of an answer's bytes: its heads, its body, and how it ends. */
function answered(whole: Buffer, at: readonly number[]) {
  const seen = { interim: 0, status: 0, length: undefined as number | undefined, body: "", ends: 0, error: "" };
  const parser = new AnswerParser({
    said: (headers) => ({ headers }),
    interim: () => seen.interim++,
    head: (status, _headers, length) => Object.assign(seen, { status, length }),
    data: (chunk) => (seen.body += chunk.toString("latin1")),
    end: () => seen.ends++,
  });
  parser.begin();
  try {
    cut(whole, at, (part) => parser.feed(part));
  } catch (error) {
    assert.ok(error instanceof AnswerError, String(error));
    seen.error = error.message;
  }
  return seen;
}

test("an answer of anything is read or refused, the same however it is cut, and never longer than it says", () => {
  fc.assert(
    fc.property(textOf(ANSWER), places, (text, at) => {
      const whole = Buffer.from(text, "latin1");
      const seen = answered(whole, at);
      assert.ok(seen.ends <= 1);
      if (seen.length !== undefined) assert.ok(seen.body.length <= seen.length);
      // Where it is refused, what came before may have been given on already.
      const other = answered(whole, []);
      if (seen.error === "" || other.error === "") assert.deepEqual(seen, other);
    }),
    RUNS,
  );
});

test("frames of anything end a connection or not, the same however they are cut", () => {
  const frames = fc
    .array(fc.tuple(fc.nat(12), fc.nat(255), fc.nat(5), bytes(12), fc.option(fc.nat(40))), { maxLength: 12 })
    .map((list) =>
      Buffer.concat([
        Buffer.alloc(24),
        ...list.flatMap(([type, flags, stream, payload, lie]) => {
          const head = Buffer.alloc(9);
          head.writeUIntBE(lie ?? payload.length, 0, 3);
          head[3] = type;
          head[4] = flags;
          head.writeUInt32BE(stream, 5);
          return [head, payload];
        }),
      ]),
    );
  const first = (whole: Buffer, at: readonly number[]) => {
    const resets: number[][] = [];
    const guard = new FrameGuard({ clock: systemClock, reset: (...reset) => void resets.push(reset) });
    const passed: Buffer[] = [];
    let code: number | undefined;
    // What it mends it mends in place.
    cut(Buffer.from(whole), at, (part) => {
      const taken = code ?? guard.take(part);
      if (typeof taken === "number") code = taken;
      else passed.push(taken);
    });
    return { end: [code, guard.highest, resets], passed: code === undefined ? Buffer.concat(passed) : undefined };
  };
  fc.assert(
    fc.property(frames, places, (whole, at) => {
      const pieces = first(whole, at);
      const once = first(whole, []);
      assert.deepEqual(pieces, once);
      // Nothing is added, and what is mended is as long as it was; the beginning of a frame may wait.
      if (once.passed) assert.ok(once.passed.length <= whole.length && whole.length - once.passed.length < LOOKED_AT);
    }),
    RUNS,
  );
  fc.assert(
    fc.property(bytes(300), (whole) => {
      const former = Buffer.from(whole);
      blameClient(whole);
      assert.equal(whole.length, former.length);
    }),
    RUNS,
  );
});

const NAMES = [
  "Host",
  "Connection",
  "Content-Length",
  "Transfer-Encoding",
  "X-Holdfast-Subject",
  "X_Holdfast_Subject",
  "X-Forwarded-For",
  "X-Forwarded",
  "Forwarded",
  "TE",
  "X-Kept",
  "Keep-Alive",
];
const VALUES = ["x", "chunked", "5", "5, 5", "close", "x-kept, close", "keep-alive", "", "a: b", "upgrade, x-kept"];

test("headers of anything become a head with nothing of one hop or of ours in it, or a refusal", () => {
  const header = fc.tuple(fc.constantFrom(...NAMES), fc.constantFrom(...VALUES));
  fc.assert(
    fc.property(fc.array(header, { maxLength: 8 }), fc.constantFrom("1.1", "1.0", "0.9", "2.0"), (list, version) => {
      try {
        const head = readHead(list.flat(), version);
        assert.match(head.passed, /^(?:x-kept: [^\r\n]*\r\n)*$/);
        const named = list.some(([name, value]) => name === "Connection" && value.includes("x-kept"));
        if (named) assert.equal(head.passed, "");
        assert.ok(head.length === undefined || Number.isSafeInteger(head.length));
        const framings = list.filter(([name]) => name === "Content-Length" || name === "Transfer-Encoding");
        assert.ok(framings.length <= 1 && (version === "1.1" || version === "1.0"));
      } catch (error) {
        assert.ok(error instanceof Failure, String(error));
      }
    }),
    RUNS,
  );
});

test("a path that was read reads as itself, and a host has no room for a path or a user", () => {
  const piece = textOf([
    "/",
    ".",
    "..",
    "%2e",
    "%2F",
    "%5c",
    "%252e",
    "%00",
    ";",
    "a",
    "?",
    "#",
    "\\",
    "https://h",
    "@",
  ]);
  fc.assert(
    fc.property(piece, (text) => {
      try {
        const { path, query } = readTarget(`/${text}`, "h");
        assert.deepEqual(readTarget(path + query, "h").path, path);
        assert.doesNotMatch(decodeURIComponent(path), /(?:^|[/\\])\.\.?(?:[/\\]|$)|\p{Cc}/u);
      } catch (error) {
        assert.ok(error instanceof Failure, String(error));
      }
      try {
        checkHost(text);
        assert.equal(new URL(`https://${text}/`).pathname, "/");
      } catch (error) {
        // A port above 65535 is none to the URL's reader, and nothing that anybody connects to.
        assert.ok(error instanceof Failure || /:\d+$|\[/.test(text) || error instanceof TypeError, String(error));
      }
    }),
    RUNS,
  );
});

const CONTROL = ["max-age", "s-maxage", "=", '"', "\\", ",", " ", "60", "no-store", "private", "0", "=60", ";", "\t"];

test("Cache-Control of anything is read, never makes fresher than a number in it, and takes no time to speak of", () => {
  fc.assert(
    fc.property(textOf(CONTROL), (text) => {
      const directives = readDirectives(text);
      for (const [name, value] of directives) {
        assert.match(name, /^[!#$%&'*+\-.^_`|~0-9a-z]+$/);
        const seconds = readSeconds(value);
        assert.ok(seconds === 0 || (Number.isSafeInteger(seconds) && /\d/.test(text)));
        readNames(value);
      }
      const headers = ["Cache-Control", text, "CDN-Cache-Control", text, "Expires", text, "Date", text];
      const { freshMs } = judge({ status: 200, headers }, { spareMs: 0, entryBytesMax: 1 }, Date.now());
      assert.ok(freshMs >= 0 && Number.isFinite(freshMs));
    }),
    RUNS,
  );
  const sinceMs = performance.now();
  for (const each of ['a="', "a=,", "max-age=1", " ", "\\", ", "]) {
    const text = each.repeat(4_000);
    readDirectives(text);
    judge({ status: 200, headers: ["CDN-Cache-Control", text] }, { spareMs: 0, entryBytesMax: 1 }, 0);
    encodingOf(text);
  }
  assert.ok(performance.now() - sinceMs < 1_000);
});

test("RFC 9110 5.6.7: a date is read as it was written, in each of its forms, and anything else is none", () => {
  const nowMs = Date.UTC(2026, 0, 1);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4_102_444_800 }), (s) => {
      assert.equal(readDate(new Date(s * 1_000).toUTCString(), nowMs), s * 1_000);
    }),
    RUNS,
  );
  fc.assert(
    fc.property(textOf(["Thu", ", ", "18", "Aug", " ", "-", "2050", "50", "02:01:18", "GMT", "31", "Feb"]), (text) => {
      const ms = readDate(text, nowMs);
      assert.ok(ms === undefined || Number.isSafeInteger(ms));
    }),
    RUNS,
  );
});

test("a range of anything lies within what there is, and conditions of anything are judged", () => {
  const text = textOf(["bytes", "=", "-", "0", "5", "9", "99999999999999999999", ",", " ", "W/", '"a"', "*", "GMT"]);
  const times = { askedMs: 0, cameMs: 0, wallMs: 0 };
  const settings = { spareMs: 0, entryBytesMax: 100 };
  const size = 10;
  const head = { status: 200, headers: ["ETag", '"a"'] };
  const entry = new Entry(head, Buffer.alloc(size), { varied: [], owner: "", settings, times });
  const within = (range: unknown) => {
    if (typeof range !== "object" || range === null) return;
    const { from, to } = range as { from: number; to: number };
    assert.ok(from >= 0 && from <= to && to < size, JSON.stringify(range));
  };
  fc.assert(
    fc.property(fc.constantFrom("bytes=", "", "BYTES="), text, text, (unit, range, condition) => {
      const asked = { range: unit + range, ifRange: undefined } as unknown as Asked;
      within(rangeOf(asked, entry));
      within(readRange(unit + range, condition || undefined, size, { etag: '"a"', modifiedMs: 0 }));
      const given = { ifMatch: condition, ifNoneMatch: condition, ifModifiedSince: condition };
      assert.match(judgeConditions(given, { etag: '"a"', modifiedMs: 0 }), /^(go-on|not-modified|failed)$/);
      assert.match(encodingOf(range + condition), /^(br|gzip|identity)$/);
    }),
    RUNS,
  );
});
