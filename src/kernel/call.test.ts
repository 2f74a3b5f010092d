/** Request ids on the wire: W3C Trace Context Level 2, clause by clause, and what is ours in it. */
import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { test } from "node:test";
import { newRequestId, newSpanId, readRequestId, readTraceparent, traceparent } from "./call.ts";
import { during, requestHere } from "./during.ts";
import { eventId } from "./events/ids.ts";
import { makeLog } from "./log.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const PARENT = "b7ad6b7169203331";
const read = { requestId: "0af76519-16cd-43dd-8448-eb211c80319c", parentId: PARENT };

/** Clause, header, whether it is taken. */
const VECTORS: readonly (readonly [clause: string, header: string | undefined, taken: boolean])[] = [
  ["3.2.2: version, trace-id, parent-id, trace-flags", `00-${TRACE}-${PARENT}-01`, true],
  ["3.2.2.5: flags that are not known are ignored", `00-${TRACE}-${PARENT}-ff`, true],
  ["3.2.2.5: not sampled is a trace too", `00-${TRACE}-${PARENT}-00`, true],
  ["3.2.2.5.2: the random flag", `00-${TRACE}-${PARENT}-02`, true],
  ["3.2.1: no header", undefined, false],
  ["3.2.1: an empty one", "", false],
  ["3.2.2.1: version ff is forbidden", `ff-${TRACE}-${PARENT}-01`, false],
  ["3.2.2.1: a version is two hex digits", `0-${TRACE}-${PARENT}-01`, false],
  ["3.2.2.1: a version is two hex digits", `000-${TRACE}-${PARENT}-01`, false],
  ["3.2.2.1: a version is two hex digits", `.0-${TRACE}-${PARENT}-01`, false],
  ["3.2.2.1: digits are lower case", `0A-${TRACE}-${PARENT}-01`, false],
  ["3.2.2.2: version 00 has four fields", `00-${TRACE}-${PARENT}-01-`, false],
  ["3.2.2.2: version 00 has four fields", `00-${TRACE}-${PARENT}-01-what-the-future-will-be-like`, false],
  ["3.2.2.2: version 00 has four fields", `00-${TRACE}-${PARENT}-01.what`, false],
  ["3.2.2.2: version 00 has four fields", `00-${TRACE}-${PARENT}`, false],
  ["3.2.2.3: trace-id of zeros", `00-${"0".repeat(32)}-${PARENT}-01`, false],
  ["3.2.2.3: trace-id too short", `00-${TRACE.slice(1)}-${PARENT}-01`, false],
  ["3.2.2.3: trace-id too long", `00-${TRACE}0-${PARENT}-01`, false],
  ["3.2.2.3: trace-id in upper case", `00-${TRACE.toUpperCase()}-${PARENT}-01`, false],
  ["3.2.2.3: trace-id with other characters", `00-${TRACE.slice(1)}.-${PARENT}-01`, false],
  ["3.2.2.4: parent-id of zeros", `00-${TRACE}-${"0".repeat(16)}-01`, false],
  ["3.2.2.4: parent-id too short", `00-${TRACE}-${PARENT.slice(1)}-01`, false],
  ["3.2.2.4: parent-id too long", `00-${TRACE}-${PARENT}0-01`, false],
  ["3.2.2.4: parent-id in upper case", `00-${TRACE}-${PARENT.toUpperCase()}-01`, false],
  ["3.2.2.4: parent-id with other characters", `00-${TRACE}-${PARENT.slice(1)}.-01`, false],
  ["3.2.2.5: flags too short", `00-${TRACE}-${PARENT}-1`, false],
  ["3.2.2.5: flags too long", `00-${TRACE}-${PARENT}-001`, false],
  ["3.2.2.5: flags with other characters", `00-${TRACE}-${PARENT}-.0`, false],
  ["3.2.2.5: flags in upper case", `00-${TRACE}-${PARENT}-0A`, false],
  ["3.2.4: of a higher version the first four fields are read", `cc-${TRACE}-${PARENT}-01`, true],
  ["3.2.4: and what follows after a dash is ignored", `cc-${TRACE}-${PARENT}-01-what-the-future-will-be-like`, true],
  ["3.2.4: but without a dash it is none", `cc-${TRACE}-${PARENT}-01.what`, false],
  ["3.2.4: nor where a field is shorter than in version 00", `cc-${TRACE}-${PARENT}-1`, false],
  ["two headers, joined by who received them", `00-${TRACE}-${PARENT}-01, 00-${TRACE}-${PARENT}-01`, false],
  ["a text around it", ` 00-${TRACE}-${PARENT}-01 x`, false],
];

test("a traceparent is taken where the standard takes it, and nowhere else", () => {
  for (const [clause, header, taken] of VECTORS)
    assert.deepEqual(readTraceparent(header), taken ? read : undefined, `${clause}: ${header}`);
});

test("what we send is read by ourselves, sampled, and called random where it is (Level 2, 3.2.2.5.2)", () => {
  const seen = new Set<string>();
  for (let i = 0; i < 2_000; i++) {
    const call = { requestId: newRequestId(), spanId: newSpanId() };
    const header = traceparent(call);
    assert.deepEqual(readTraceparent(header), { requestId: call.requestId, parentId: call.spanId });
    assert.match(header, /-03$/);
    // The last seven bytes, which the flag speaks of.
    seen.add(call.requestId.replaceAll("-", "").slice(18));
  }
  assert.equal(seen.size, 2_000);
  const derived = eventId(5, 7, 9);
  assert.match(traceparent({ requestId: derived, spanId: PARENT }), /-01$/);
});

test("a request id is a UUID in lower case, and not the one of zeros", () => {
  assert.equal(readRequestId(read.requestId.toUpperCase()), read.requestId);
  for (const none of [undefined, "", "x", TRACE, `${read.requestId} `, "00000000-0000-0000-0000-000000000000"])
    assert.equal(readRequestId(none), undefined, String(none));
});

test("each line that is written while a request is worked on carries its id, and none after it has ended", async () => {
  const lines: { msg: string; requestId?: string }[] = [];
  const log = makeLog("x", { to: { write: (line: string) => void lines.push(JSON.parse(line) as (typeof lines)[0]) } });
  /** What runs as a timer would that a request left behind. */
  const left: ((say: () => void) => void)[] = [];
  const work = (id: string, turns: number) =>
    during({ requestId: id, spanId: "" }, undefined, async () => {
      const over = new Promise<void>((resolve) => setImmediate(resolve));
      for (let i = 0; i < turns; i++) await over.then(() => undefined);
      log.child({ part: "p" }).warn({}, id);
      left.push(AsyncLocalStorage.snapshot());
      if (id === "b") throw new Error("it failed");
    });
  await Promise.allSettled([work("a", 3), work("b", 1), work("c", 5)]);
  log.info("nobody's");
  await during({ requestId: "d", spanId: "" }, undefined, async () => log.info({ requestId: "own" }, "own"));
  for (const run of left) run(() => log.info({}, "left behind"));
  for (const { msg, requestId } of lines)
    assert.equal(requestId, msg === "nobody's" || msg === "left behind" ? undefined : msg, msg);
  assert.equal(lines.length, 3 + 1 + 1 + 3);
  assert.equal(requestHere(), undefined);
});
