import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { after, test } from "node:test";
import { context, propagation, SpanStatusCode, trace } from "@opentelemetry/api";
import { Type } from "typebox";
import { defineService } from "../src/kit/service.ts";
import { asUuid, makeCall, newRequestId, readTraceparent } from "../src/kernel/call.ts";
import { systemClock } from "../src/kernel/clock.ts";
import { contract, get } from "../src/kernel/contract.ts";
import { makeLog } from "../src/kernel/log.ts";
import { makeLocalHouse } from "../src/node/local.ts";
import { Tracer } from "../src/kernel/trace.ts";
import { connect } from "../src/kernel/connect.ts";
import { serve } from "../src/kernel/serve.ts";
import { Agent } from "node:http";

const otel = trace.getTracer("a library");
const called = contract("called", {
  what: get("/what", { input: {}, output: Type.Object({ parentId: Type.String() }), callers: ["*"] }),
});
const caller = contract("caller", {
  ask: get("/ask", { input: {}, output: Type.Object({ parentId: Type.String() }), callers: ["cli"] }),
  fail: get("/fail", { input: {}, output: Type.Object({}), callers: ["cli"] }),
});

const lines: { msg: string; requestId?: string }[] = [];
const log = makeLog("caller", {
  to: { write: (text: string) => void lines.push(JSON.parse(text) as (typeof lines)[0]) },
});
const agent = new Agent({ keepAlive: true });
after(() => agent.destroy());

/** Serves on loopback; the client's calls are the command line's. */
async function served<C extends Parameters<typeof serve>[0]["contract"]>(of: C, service: never, tracer: Tracer) {
  const listen = { host: "127.0.0.1", port: 0 };
  const at = await serve({ contract: of, service, listen, plainCaller: "cli", log, clock: systemClock, tracer });
  after(() => at.close());
  const target = { host: at.host, port: at.port, agent, secure: false };
  return connect(of, { resolver: { pick: () => target, failed: () => undefined } });
}

const callerTracer = new Tracer("caller", systemClock);
const far = await served(
  called,
  { what: async (_: unknown, { parentId }: { parentId: string }) => ({ parentId }) } as never,
  new Tracer("called", systemClock),
);
const near = await served(
  caller,
  {
    ask: (_: object, call: Parameters<typeof far.what>[1]) =>
      otel.startActiveSpan("outer", { attributes: { "holdfast.device": "pump-1", rows: 7 } }, async (outer) => {
        await turn();
        log.info("within");
        const answer = await otel.startActiveSpan("inner", async (inner) => {
          try {
            return await far.what({}, call);
          } finally {
            inner.end();
          }
        });
        outer.addEvent("asked").end();
        return answer;
      }),
    fail: async () => {
      const span = otel.startSpan("fails");
      span.recordException(new TypeError("x is no y"));
      span.setStatus({ code: SpanStatusCode.ERROR, message: "it failed" });
      span.setAttribute("http.response.status_code", 503).end();
      span.end();
      return {};
    },
  } as never,
  callerTracer,
);

test("what a service begins by OpenTelemetry's API is in the request's story: as steps below its own, with the calls made within", async () => {
  const call = makeCall({ caller: "cli", timeoutMs: 5_000 });
  const { parentId } = await near.ask({}, call);
  const spans = callerTracer.take();
  const [inner, outer, own] = ["inner", "outer", "ask"].map((name) =>
    spans.find(({ operation }) => operation === name)!,
  );
  assert.deepEqual(new Set(spans.map(({ requestId }) => requestId)), new Set([call.requestId]));
  assert.deepEqual([inner.parentId, outer.parentId, own.parentId], [outer.spanId, own.spanId, call.spanId]);
  assert.equal(parentId, inner.spanId, "the call's traceparent names the span that it was made in");
  assert.deepEqual([outer.device, outer.status, outer.service], ["pump-1", 0, "caller"]);
  assert.match(outer.note!, /^rows=7; event asked=\+\d+\.\d{3} ms$/);
  assert.ok(outer.startNs >= own.startNs - 2_000_000n && outer.durationUs >= inner.durationUs);
  assert.equal(lines.find(({ msg }) => msg === "within")?.requestId, call.requestId);
});

test("a span that failed is told as a failure, with what it says, once", async () => {
  await near.fail({}, makeCall({ caller: "cli", timeoutMs: 5_000 }));
  const told = callerTracer.take().filter(({ operation }) => operation === "fails");
  assert.deepEqual(
    told.map(({ status, note }) => [status, note]),
    [[503, "it failed; TypeError: x is no y; http.response.status_code=503"]],
  );
});

test("a context goes over any wire as traceparent, and the span there is a child of the one here; links are found by", async () => {
  await near.ask({}, makeCall({ caller: "cli", timeoutMs: 5_000 }));
  const [{ requestId, spanId }] = callerTracer.take();
  const carrier: Record<string, string> = {};
  const remote = trace.setSpanContext(context.active(), {
    traceId: requestId!.replaceAll("-", ""),
    spanId,
    traceFlags: 1,
  });
  propagation.inject(remote, carrier);
  assert.deepEqual(readTraceparent(carrier["traceparent"]), { requestId, parentId: spanId });
  const found = propagation.extract(context.active(), carrier);
  const linked = newRequestId();
  const links = [{ context: { traceId: linked.replaceAll("-", ""), spanId, traceFlags: 1 } }];
  const directory = mkdtempSync(join(tmpdir(), "holdfast-otel-"));
  after(() => rmSync(directory, { recursive: true, force: true }));
  const house = makeLocalHouse({
    node: "edge1",
    version: "1",
    log,
    directory,
    dataKey: async () => Buffer.alloc(32, 1),
  });
  const main = defineService({
    contract: contract("alone", {}),
    async start() {
      // Of its own accord: later, and for no request.
      await turn();
      otel.startSpan("child", { links }, found).end();
      otel.startSpan("its own").end();
      return { service: {} };
    },
  });
  const { tracer } = await house.start(main);
  const [child, own] = tracer.take();
  assert.deepEqual([child.requestId, child.parentId, child.link, child.service], [requestId, spanId, linked, "alone"]);
  assert.ok(own.requestId !== requestId && own.parentId === undefined);
  await house.stop();
});

test("what is too long for a step is cut, and ids that are none begin a trace of their own", () => {
  const bad = trace.setSpanContext(context.active(), { traceId: "0".repeat(32), spanId: "x", traceFlags: 1 });
  const span = otel.startSpan("n".repeat(500), {}, bad);
  assert.ok(span.isRecording());
  for (let i = 0; i < 100; i++) span.setAttribute(`key ${i}`, "v".repeat(1_000));
  span.end();
  assert.ok(!span.isRecording());
  assert.match(asUuid(span.spanContext().traceId), /^[0-9a-f-]{36}$/);
  const carrier = {};
  propagation.inject(bad, carrier);
  assert.deepEqual(carrier, {});
});
