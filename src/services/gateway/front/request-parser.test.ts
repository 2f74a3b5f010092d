/** The reader of requests: however the bytes are cut it reads the same, and whatever they are it reads or refuses. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Failure } from "../../../kernel/error.ts";
import { RequestParser } from "./request-parser.ts";

const SEED = 41;
const GOOD = [
  "GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-A:  b c \r\n\r\n",
  "\r\nPOST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
  "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n3\r\nyou\r\n0\r\nX-T: 1\r\n\r\n",
  "GET / HTTP/1.0\r\n\r\n",
  "POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
];

/** Reads bytes that come in pieces; all that was read, and how it ended. */
function read(pieces: readonly Buffer[]): unknown[] {
  const seen: unknown[] = [];
  let body = "";
  const whole = () => {
    seen.push(body);
    body = "";
    parser.begin();
  };
  const parser = new RequestParser(
    {
      head({ method, url, fields }) {
        seen.push([method, url, fields.raw, fields.head.length]);
        if (!fields.head.hasBody) bodyless = true;
      },
      data: (chunk) => (body += chunk.toString("latin1")),
      end: () => (bodyless = true),
    },
    1_024,
  );
  let bodyless = false;
  try {
    for (const piece of pieces) {
      let rest: Buffer | undefined = piece;
      while (rest && rest.length > 0) {
        rest = parser.feed(rest);
        if (bodyless) whole();
        bodyless = false;
      }
    }
  } catch (error) {
    assert.ok(error instanceof Failure, String(error));
    return [...seen, error.code];
  }
  return [...seen, parser.partial];
}

const cutAt = (bytes: Buffer, at: readonly number[]): Buffer[] => {
  const cuts = [0, ...at.map((each) => each % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return cuts.slice(1).map((end, i) => bytes.subarray(cuts[i], end));
};

test("requests that follow each other are read the same, wherever the bytes are cut", () => {
  const many = fc.array(fc.constantFrom(...GOOD), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(many, fc.array(fc.nat(2_000), { maxLength: 12 }), (texts, at) => {
      const bytes = Buffer.from(texts.join(""), "latin1");
      const whole = read([bytes]);
      assert.equal(whole.length, texts.length * 2 + 1);
      assert.equal(whole.at(-1), false, "all of it was read");
      assert.deepEqual(read(cutAt(bytes, at)), whole);
      assert.deepEqual(read([...bytes].map((byte) => Buffer.from([byte]))), whole);
    }),
    { seed: SEED, numRuns: 300 },
  );
});

test("every beginning of a request is waited for, and none of it is refused", () => {
  for (const text of GOOD)
    for (let end = 1; end < text.length; end++) {
      const whole = read([Buffer.from(text.slice(0, end), "latin1")]);
      assert.equal(typeof whole.at(-1), "boolean", JSON.stringify([text.slice(0, end), whole]));
    }
});

test("bytes that are changed, left out or put in are read or refused with a code, and never more than was sent", () => {
  const odd = fc.constantFrom(
    "\r",
    "\n",
    "\r\n",
    " ",
    "\t",
    "\0",
    ":",
    ";",
    "0",
    "f",
    "\x80",
    "\r\n\r\n",
    "Host: y\r\n",
  );
  const change = fc.tuple(fc.nat(200), fc.nat(3), odd);
  fc.assert(
    fc.property(fc.constantFrom(...GOOD), fc.array(change, { minLength: 1, maxLength: 3 }), (text, changes) => {
      let changed = text;
      for (const [at, left, put] of changes) {
        const from = at % changed.length;
        changed = changed.slice(0, from) + put + changed.slice(from + left);
      }
      const bytes = Buffer.from(changed, "latin1");
      const whole = read([bytes]);
      for (const each of whole)
        if (Array.isArray(each)) {
          const [, , raw] = each as [string, string, string[]];
          for (const value of raw) assert.doesNotMatch(value, /[\r\n\0]/);
        }
      const bodies = whole.filter((each, i) => typeof each === "string" && i < whole.length - 1) as string[];
      assert.ok(bodies.join("").length <= bytes.length);
    }),
    { seed: SEED, numRuns: 2_000 },
  );
});
