/** How requests are spread over instances, sent again, and kept from those in trouble. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "../../../kernel/clock.ts";
import { type GatewayHouse, startGateway } from "../../../../test/houses/gateway.ts";
import { asker, type Got, type Origin, startOrigin } from "../../../../test/houses/origin.ts";
import { BALANCES, slowStart } from "./balance.ts";
import { Endpoint } from "./endpoint.ts";
import { Ticket } from "../ticket.ts";
import { Breaker, Budget, Bulkhead, Latencies } from "./guards.ts";

let house: GatewayHouse;
let origins: Origin[];
let client: ReturnType<typeof asker>;

before(async () => {
  house = await startGateway({ addressRequestsPerS: 1_000_000, addressBurst: 1_000_000 });
  origins = await Promise.all([0, 1, 2].map(() => startOrigin()));
  client = asker(house);
});
after(async () => {
  client.close();
  await Promise.all(origins.map((origin) => origin.stop()));
  await house.stop();
});
beforeEach(() => {
  for (const origin of origins) {
    origin.asked.length = 0;
    origin.answer = {};
  }
});

const get = (path = "/u", headers: Record<string, string> = {}): Promise<Got> => client.ask("GET", path, { headers });
const load = (settings: object, route: object = {}, urls = origins.map(({ url }) => url)) =>
  house.routes({
    upstreams: { many: { urls, ...settings } },
    routes: [
      { name: "u", match: { path: "/u/**" }, access: "public", errors: "pass", to: [{ upstream: "many" }], ...route },
    ],
  });
const counts = () => origins.map(({ asked }) => asked.length);
const times = async (count: number, ask: (i: number) => Promise<unknown> = () => get()) => {
  for (let i = 0; i < count; i++) await ask(i);
};
const metric = async (name: string) =>
  (await client.ask("GET", "/metrics", { headers: { Authorization: `Bearer ${await house.token()}` } })).body
    .split("\n")
    .filter((line) => line.startsWith(name));

test("round robin takes them in turn, least requests those with the fewest under way", async () => {
  load({ balance: "round-robin" });
  await times(9);
  assert.deepEqual(counts(), [3, 3, 3]);
  load({ balance: "least-requests" });
  const open: (() => void)[] = [];
  origins[0].answer = (_, response) => void open.push(() => response.end());
  const slow = Promise.all([get("/u/slow"), get("/u/slow"), get("/u/slow")]);
  while (open.length === 0) await sleep(5);
  for (const origin of origins) origin.asked.length = 0;
  await times(6);
  assert.equal(counts()[0], 0);
  open.forEach((end) => end());
  origins[0].answer = {};
  await slow;
});

test("a key leads to the same instance, and when one goes only its keys move", async () => {
  const owners = async () => {
    const found = new Map<number, number>();
    for (let i = 0; i < 30; i++) {
      const former = counts();
      await get("/u", { "X-Tenant": String(i) });
      found.set(
        i,
        counts().findIndex((count, at) => count > former[at]),
      );
    }
    return found;
  };
  load({ balance: "hash", key: "header:x-tenant" });
  const first = await owners();
  assert.deepEqual(await owners(), first);
  assert.ok(new Set(first.values()).size === 3, "all have some");
  load({ balance: "hash", key: "header:x-tenant" }, {}, [origins[0].url, origins[1].url]);
  for (const [key, owner] of await owners()) if (first.get(key) !== 2) assert.equal(owner, first.get(key));
});

test("peak EWMA keeps away from the slow one, and a new one gets its share slowly", () => {
  const make = (instance: string) => new Endpoint({ service: "s", instance, host: "", port: 1, security: "plain" }, 0);
  const [fast, slow] = [make("fast"), make("slow")];
  fast.took(1, 0);
  slow.took(100, 0);
  const choice = { from: [fast, slow], key: "", share: () => 1, turn: 0 };
  for (let i = 0; i < 50; i++) assert.equal(BALANCES["peak-ewma"](choice), fast);
  slow.took(1, 100_000);
  assert.ok(slow.latencyMs < 1.1, "it is forgiven in time");
  assert.deepEqual(
    [slowStart(0, 1_000), slowStart(500, 1_000), slowStart(5_000, 1_000), slowStart(0, 0)],
    [0.1, 0.5, 1, 1],
  );
  const cold = { from: [fast, slow], key: "", turn: 0, share: (endpoint: Endpoint) => (endpoint === slow ? 0.1 : 1) };
  const picks = Array.from({ length: 400 }, (_, turn) => BALANCES["round-robin"]({ ...cold, turn }));
  assert.ok(picks.filter((endpoint) => endpoint === slow).length < 80);
});

test("one that answers with errors in a row is left out, and asked again after its time", async () => {
  load({ balance: "round-robin", eject: { failures: 2, ms: 150, msMax: 150 } });
  origins[1].answer = { status: 500 };
  await times(9);
  assert.equal(counts()[1], 2);
  origins[1].answer = {};
  await sleep(200);
  await times(6);
  assert.ok(counts()[1] > 2);
});

test("an active check leaves out what does not answer well, and brings it back", async () => {
  load({ balance: "round-robin", check: { path: "/up", everyMs: 100, timeoutMs: 500, badMin: 1 } });
  origins[2].answer = ({ url }, response) => response.writeHead(url === "/up" ? 503 : 200).end();
  const asked = async () => {
    for (const origin of origins) origin.asked.length = 0;
    await times(6);
    return origins[2].asked.filter(({ url }) => url !== "/up").length;
  };
  let left = await asked();
  for (let i = 0; i < 40 && left > 0; i++) {
    await sleep(50);
    left = await asked();
  }
  assert.equal(left, 0);
  origins[2].answer = {};
  for (let i = 0; i < 40 && left === 0; i++) {
    await sleep(50);
    left = await asked();
  }
  assert.ok(left > 0);
  load({});
});

test("an answer of a status to be asked again is asked again, where that is safe and the budget lasts", async () => {
  load({ balance: "round-robin", retryBudget: { share: 0, reserve: 3 } }, { retry: { triesMax: 3, statuses: [503] } });
  origins[0].answer = origins[1].answer = { status: 503 };
  assert.equal((await get()).status, 200);
  for (const origin of origins) origin.answer = { status: 503 };
  for (const origin of origins) origin.asked.length = 0;
  assert.equal((await client.ask("POST", "/u", { body: "x" })).status, 503);
  assert.equal(
    counts().reduce((sum, count) => sum + count),
    1,
    "what changes something is sent once",
  );
  assert.equal((await get()).status, 503);
  const sent = counts().reduce((sum, count) => sum + count);
  await times(5);
  assert.equal(
    counts().reduce((sum, count) => sum + count),
    sent + 5,
    "the budget is spent",
  );
});

test("a try has its own time: another instance is asked, and the whole ends when its time is over", async () => {
  load({ balance: "round-robin" }, { tryTimeoutMs: 100, timeoutMs: 2_000 });
  origins[0].answer = origins[1].answer = () => undefined;
  const startMs = performance.now();
  assert.equal((await get()).status, 200);
  assert.ok(performance.now() - startMs < 1_000);
  load({}, { timeoutMs: 150 }, [origins[0].url]);
  const late = await get();
  assert.equal(late.status, 504);
  assert.equal((JSON.parse(late.body) as { code: string }).code, "DEADLINE");
});

test("a read that takes longer than most is asked for a second time, under a budget, and the first answer counts", async () => {
  load({ balance: "round-robin" }, { hedge: { quantile: 0.9, share: 0.5 } }, [origins[0].url, origins[1].url]);
  await times(40);
  origins[0].answer = (_, response) => setTimeout(() => response.end("slow"), 1_500);
  const startMs = performance.now();
  const bodies = await Promise.all(Array.from({ length: 6 }, () => get()));
  assert.ok(performance.now() - startMs < 1_400, "the second was not waited for");
  assert.ok(bodies.every(({ body }) => body !== "slow"));
  assert.match((await metric("holdfast_gateway_hedges_total{"))[0] ?? "", /upstream="many"\} [1-9]/);
});

test("a breaker opens when too many fail, spares the upstream, and closes when one is answered", async () => {
  load({ breaker: { failedShare: 0.5, requestsMin: 4, windowMs: 10_000, openMs: 200 } }, {}, [origins[0].url]);
  origins[0].answer = { status: 503 };
  await times(4);
  const open = await get();
  assert.deepEqual(
    [open.status, (JSON.parse(open.body) as { code: string }).code, open.headers["retry-after"]],
    [503, "GATEWAY_BREAKER_OPEN", "1"],
  );
  assert.equal(origins[0].asked.length, 4);
  origins[0].answer = {};
  await sleep(250);
  assert.equal((await get()).status, 200);
  assert.equal((await get()).status, 200);
  assert.equal(origins[0].asked.length, 6);
});

test("a bulkhead takes so many at once, lets some wait, and refuses the rest", async () => {
  load({ bulkhead: { runningMax: 2, waitingMax: 1, waitMs: 5_000 } }, {}, [origins[0].url]);
  const ends: (() => void)[] = [];
  origins[0].answer = (_, response) => void ends.push(() => response.end("done"));
  const all = Promise.all(Array.from({ length: 5 }, () => get()));
  for (let i = 0; i < 400 && ends.length < 2; i++) await sleep(5);
  await sleep(50);
  assert.equal(ends.length, 2);
  ends.splice(0).forEach((end) => end());
  for (let i = 0; i < 400 && ends.length < 1; i++) await sleep(5);
  ends.splice(0).forEach((end) => end());
  const statuses = (await all).map(({ status }) => status).sort((a, b) => a - b);
  assert.deepEqual(statuses, [200, 200, 200, 503, 503]);
});

test("a bulkhead's places are divided by the processes of the door, and each has one at least", async () => {
  let processes = 2;
  const settings = { runningMax: 5, waitingMax: 1, waitMs: 60_000 };
  const bulkhead = new Bulkhead("x", settings, () => processes);
  const ticket = new Ticket({ timeoutMs: 60_000, clock: systemClock });
  await bulkhead.enter(ticket);
  await bulkhead.enter(ticket);
  const third = bulkhead.enter(ticket.child());
  await assert.rejects(bulkhead.enter(ticket), /as may be/);
  processes = 9;
  bulkhead.leave();
  assert.equal(await Promise.race([third.then(() => "in"), sleep(20, "waits")]), "waits");
  bulkhead.leave();
  await third;
  ticket.stop();
});

test("guards by themselves: a breaker lets one try through, a budget earns by share, a quantile needs enough", () => {
  let nowMs = 0;
  const breaker = new Breaker(
    "x",
    { failedShare: 0.5, requestsMin: 2, windowMs: 1_000, openMs: 100 },
    { ...systemClock, monotonicMs: () => nowMs },
  );
  breaker.note(false);
  nowMs = 5_000;
  breaker.note(false);
  assert.equal(breaker.open, false, "the first has left the window");
  breaker.note(false);
  assert.equal(breaker.open, true);
  assert.throws(() => breaker.admit(), /spared/);
  nowMs += 100;
  breaker.admit();
  assert.throws(() => breaker.admit(), /spared/, "one try at a time");
  breaker.note(undefined);
  breaker.admit();
  breaker.note(true);
  assert.equal(breaker.open, false);
  const budget = new Budget(0.25, 1);
  assert.deepEqual([budget.spend(), budget.spend()], [true, false]);
  for (let i = 0; i < 4; i++) budget.earn();
  assert.equal(budget.spend(), true);
  const latencies = new Latencies();
  for (let i = 1; i <= 100; i++) {
    if (i === 10) assert.equal(latencies.quantile(0.5), undefined);
    latencies.note(i);
  }
  assert.deepEqual([latencies.quantile(0.5), latencies.quantile(0.99)], [51, 100]);
});
