/** The change stream goes on where it broke off, queries wait for news, and what is known is not sent again. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { codeOf, Held, setUp, turn } from "../../../test/houses/leases.ts";
import { clientOf, instanceOf, papersOf, quiet, serveRegistry } from "../../../test/houses/registry.ts";
import { type Call, makeCall } from "../../kernel/call.ts";
import { systemClock } from "../../kernel/clock.ts";
import { createAuthority } from "../../kernel/identity/authority.ts";
import { serve } from "../../kernel/serve.ts";
import { Tracer } from "../../kernel/trace.ts";
import { registry } from "./api.ts";
import { followTable } from "./client.ts";
import { HISTORY_MAX } from "./history.ts";

const asking = (timeoutMs = 5_000): Call & { end(abort: boolean): void } => makeCall({ caller: "node", timeoutMs });

test("a watcher that names its revision gets what it missed, and nothing else", async () => {
  const { running, renew } = setUp({ revision: 1_000 });
  const a = new Held(running, instanceOf("core-data", "a"));
  await turn();
  const { revision } = running.counts();
  assert.equal(revision, 1_001);
  await renew(a, "warning", "slow");
  const b = new Held(running, instanceOf("core-data", "b"));
  await turn();
  const late = new Held(running, undefined, { after: revision });
  await turn();
  b.call.end(true);
  await b.done;
  await turn();
  assert.deepEqual(late.words(), ["resumed", "changed a:warning", "up b:passing", "down b:passing"]);
  assert.deepEqual(
    late.changes.map((c) => c.revision),
    [1_001, 1_002, 1_003, 1_004],
  );
  const current = new Held(running, undefined, { after: running.counts().revision });
  await turn();
  assert.deepEqual(current.words(), ["resumed"]);
});

test("a revision that is not known, of the past, the future or another start, is 410; a holder then gets a snapshot", async () => {
  const { running, renew } = setUp({ revision: 1_000 });
  const a = new Held(running, instanceOf("core-data", "a"));
  await turn();
  for (const after of [0, 999, 1_002, 5_000_000])
    assert.throws(() => running.service.watch({ after }, asking()), codeOf("REGISTRY_REVISION_GONE"), String(after));
  for (let n = 0; n < HISTORY_MAX; n++) await renew(a, "warning", `reason ${n}`);
  assert.throws(() => running.service.watch({ after: 1_000 }, asking()), codeOf("REGISTRY_REVISION_GONE"));
  running.service.watch({ after: 1_001 }, asking());
  const b = new Held(running, instanceOf("core-data", "b"), { after: 1_000 });
  await turn();
  assert.deepEqual(b.words(), ["lease", "snapshot a:warning,b:passing"]);
  const c = new Held(running, instanceOf("core-data", "c"), { after: running.counts().revision });
  await turn();
  assert.deepEqual(c.words(), ["lease", "resumed", "up c:passing"]);
});

test("a query with a revision waits for news of the service that it names, and no longer than it says", async () => {
  const { running, renew } = setUp();
  const a = new Held(running, instanceOf("core-data", "a"));
  await turn();
  const of = { service: "core-data" };
  const first = await running.service.instances(of, asking());
  const waiting = running.service.instances({ ...of, after: first.revision, waitMs: 60_000 }, asking(60_000));
  let isOver = false;
  void waiting.then(() => (isOver = true));
  const other = new Held(running, instanceOf("trace", "t"));
  await turn();
  assert.equal(isOver, false, "another service's news are not this one's");
  await renew(a, "draining");
  const news = await waiting;
  assert.ok(news.revision > first.revision);
  assert.deepEqual(
    news.instances.map((i) => i.state),
    ["draining"],
  );
  const same = await running.service.instances({ ...of, after: news.revision, waitMs: 20 }, asking());
  assert.equal(same.revision, news.revision);
  const call = asking(60_000);
  const abandoned = running.service.instances({ after: running.counts().revision, waitMs: 60_000 }, call);
  call.end(true);
  await abandoned;
  other.call.end(true);
});

test("an answer names its revision as ETag, and who has it gets 304", async (t) => {
  const { running, renew } = setUp();
  const a = new Held(running, instanceOf("core-data", "a"));
  await turn();
  const shared = { log: quiet, clock: systemClock, tracer: new Tracer("core-keeper", systemClock) };
  const served = await serve({
    ...shared,
    contract: registry,
    service: running.service,
    listen: { host: "127.0.0.1", port: 0 },
    plainCaller: "open-edgex",
  });
  t.after(() => served.close());
  const url = `http://127.0.0.1:${served.port}/registry/instances?service=core-data`;
  const first = await fetch(url);
  const tag = first.headers.get("etag") ?? "";
  const { revision } = (await first.json()) as { revision: number };
  assert.equal(tag, `"${revision}"`);
  for (const known of [tag, `W/${tag}`, `"x", ${tag}`, "*"]) {
    const again = await fetch(url, { headers: { "if-none-match": known } });
    assert.equal(again.status, 304, known);
    assert.equal(again.headers.get("etag"), tag);
    assert.equal(await again.text(), "");
  }
  await renew(a, "warning");
  const changed = await fetch(url, { headers: { "if-none-match": tag } });
  assert.equal(changed.status, 200);
  assert.notEqual(changed.headers.get("etag"), tag);
});

test("a follower whose connection broke goes on from its revision, and begins anew after the registry's restart", async (t) => {
  const authority = await createAuthority({ node: "edge-1", clock: systemClock });
  const papers = await papersOf(authority, "core-keeper");
  const served = await serveRegistry({ papers, port: 0 });
  const client = clientOf(await papersOf(authority, "node"), served.port);
  const ended = new AbortController();
  t.after(() => ended.abort());
  const kinds: string[] = [];
  let wake = () => {};
  const next = async (kind: string) => {
    while (!kinds.includes(kind)) await new Promise<void>((resolve) => (wake = resolve));
    kinds.length = 0;
  };
  const onChange = ({ kind }: { kind: string }) => {
    kinds.push(kind);
    wake();
  };
  followTable({ ...client, caller: "node", log: quiet, signal: ended.signal, onChange, reopenMs: 40 });
  await next("snapshot");
  await next("resumed");
  await served.stop();
  const restarted = await serveRegistry({ papers, port: served.port, options: { revision: Date.now() * 2 } });
  t.after(() => restarted.stop());
  await next("snapshot");
});
