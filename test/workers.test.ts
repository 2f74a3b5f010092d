/** The gateway as two processes on one port: what happens to one of them, or to anybody behind, is no client's affair. */
import assert from "node:assert/strict";
import { closeSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { listenTcp } from "../src/node/confine/listen.ts";
import { manifestOf } from "../src/node/manifest.ts";
import { instancesOf, spreadOver } from "../src/node/sockets.ts";
import { main as gatewayMain } from "../src/services/gateway/main.ts";
import {
  call,
  isAlive,
  makePlace,
  type Place,
  removeCode,
  type RunningNode,
  startNode,
  testCode,
  until,
} from "./houses/node/rig.ts";

let place: Place;
let node: RunningNode;
let port = 0;
let token = "";
const kept = new Agent({ keepAlive: true, rejectUnauthorized: false });

before(async () => {
  await testCode("door-house.ts");
  const free = listenTcp({ host: "127.0.0.1", port: 0 });
  closeSync(free.fd);
  port = free.port;
  const doors = `doors: { gateway.https: { port: ${port} }, test-service.plain: { port: 0 } }`;
  place = makePlace();
  writeFileSync(
    place.config,
    `node:\n  keyFile: ${place.keyFile}\n  instances: { gateway: 2 }\n  ${doors}\ngateway: { instanceWaitMs: 20000 }\n`,
  );
  node = await startNode(place);
  await node.wrote(/Running: 4 services/);
  await bothUp();
  ({ token } = await node.control.token({ body: { subject: "a", role: "viewer", lifetimeS: 600 } }, call()));
});
after(() => {
  kept.destroy();
  node.close();
  place.remove();
  removeCode();
});

async function processes(): Promise<{ service: string; pid: number }[]> {
  const { services } = await node.control.status({}, call());
  return services.filter(({ state }) => state === "passing").map(({ service, pid }) => ({ service, pid }));
}
const gateways = async () => (await processes()).filter(({ service }) => service === "gateway");
const bothUp = () =>
  until(
    async () => (await gateways()).length === 2,
    () => "two gateways",
  );

/** Asks once; a status, or the code of what went wrong. A kept connection may have ended as the request left: RFC 9110 9.2.2 has it sent again. */
function ask(path: string, agent: Agent | false = false): Promise<number | string> {
  return new Promise((resolve) => {
    const headers = { authorization: `Bearer ${token}` };
    const asked = request({ host: "127.0.0.1", port, path, agent, rejectUnauthorized: false, headers }, (response) => {
      response.resume();
      response.once("end", () => resolve(response.statusCode ?? 0));
      response.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    });
    asked.once("error", (error: NodeJS.ErrnoException) =>
      resolve(asked.reusedSocket ? ask(path, agent) : (error.code ?? error.message)),
    );
    asked.end();
  });
}

const ECHO = "/test-service/echo?text=x";

/** Asks all the time, by new connections and by kept ones, while something is done; counts the answers. */
async function during(work: () => Promise<void>, path = ECHO): Promise<Map<number | string, number>> {
  const seen = new Map<number | string, number>();
  const over = new AbortController();
  const lane = async (agent: Agent | false) => {
    while (!over.signal.aborted) {
      const got = await ask(path, agent);
      seen.set(got, (seen.get(got) ?? 0) + 1);
    }
  };
  const lanes = [lane(false), lane(false), lane(kept), lane(kept)];
  try {
    await work();
  } finally {
    over.abort();
    await Promise.all(lanes);
  }
  return seen;
}

test("half the cores, at most four, and one where the machine is small", () => {
  assert.deepEqual(
    [1, 2, 3, 4, 8, 64].map((cores) => spreadOver(cores, 8 * 1024 ** 3)),
    [1, 1, 1, 2, 4, 4],
  );
  assert.equal(spreadOver(8, 1024 ** 3), 1);
});

test("with a door for datagrams there is one: they come to any of those that share it", () => {
  const manifest = manifestOf(gatewayMain);
  const instances = { gateway: 3 };
  assert.equal(instancesOf(manifest, { instances, doors: {} }), 3);
  assert.equal(instancesOf(manifest, { instances, doors: { "gateway.coap": { host: "127.0.0.1", port: 5_683 } } }), 1);
});

test("a worker that is killed fails no new connection, and comes back", async () => {
  const [victim] = await gateways();
  process.kill(victim.pid, "SIGKILL");
  await until(
    () => !isAlive(victim.pid),
    () => "the end of the killed worker",
  );
  for (let i = 0; i < 40; i++) assert.equal(await ask(ECHO), 200);
  await bothUp();
});

test("who guesses at one worker has guessed at the other one, too", async () => {
  const wrong = (at: number) =>
    new Promise<number>((resolve, reject) => {
      // Two names in turn, each of a shape that is looked at, and of nobody.
      const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
      const guess = `${part({ alg: "ES256", kid: "k", typ: "JWT" })}.${part({ iss: "x", sub: `guess ${at}` })}.eA`;
      const headers = { authorization: `Bearer ${guess}` };
      const asked = request({ host: "127.0.0.1", port, path: ECHO, agent: false, rejectUnauthorized: false, headers });
      asked.once("error", reject).once("response", (response) => {
        response.resume();
        response.once("end", () => resolve(response.statusCode ?? 0));
      });
      asked.end();
    });
  // Five tries of a name cost nothing, wherever they come in; then one a second, and so on.
  const seen: number[] = [];
  for (let i = 0; i < 30; i++) seen.push(await wrong(1));
  const tried = seen.filter((status) => status === 401).length;
  assert.ok(tried >= 5 && tried <= 8, `${tried} tries of ${seen.join()}`);
  assert.equal(seen.at(-1), 429);
});

/** What the routes file says from now on; resolves when both workers know it. */
async function routed(file: object, known: (status: number | string) => boolean, path: string): Promise<void> {
  // JSON is YAML, too.
  writeFileSync(join(place.state, "routes.yaml"), JSON.stringify(file));
  let row = 0;
  await until(
    // New connections go to either worker.
    async () => (row = known(await ask(path)) ? row + 1 : 0) === 30,
    () => "both workers to know it",
  );
}

test("a client has its limit once, by whichever worker it comes, and a restart of both gives it none anew", async () => {
  const BURST = 40;
  const limits = [{ per: "address", requestsPerS: 0.001, burst: BURST }];
  const respond = { text: "taken" };
  const counted = { name: "counted", match: { path: "/counted" }, access: "public", limits, respond };
  const free = { name: "free", match: { path: "/free" }, access: "public", respond };
  await routed({ routes: [counted, free] }, (status) => status === 200, "/free");
  const asked: (number | string)[] = [];
  for (let i = 0; i < BURST * 2; i++) asked.push(await ask("/counted"));
  const taken = asked.filter((status) => status === 200).length;
  // One that comes while the last message is on its way may be let through beyond; each worker by itself would let 40.
  assert.ok(taken >= BURST && taken <= BURST + 4, `${taken} of ${asked.join()}`);
  const old = (await gateways()).map(({ pid }) => pid);
  for await (const { pid } of node.control.restart({ services: ["gateway"] }, call(120_000))) assert.ok(isAlive(pid));
  assert.ok((await gateways()).every(({ pid }) => !old.includes(pid)));
  for (let i = 0; i < 20; i++) assert.equal(await ask("/counted"), 429);
});

test("a breaker that opens at one worker is open at the other, which has seen less", async () => {
  const breaker = { requestsMin: 10, failedShare: 0.5, windowMs: 600_000, openMs: 600_000 };
  const upstreams = { away: { urls: ["http://127.0.0.1:9"], breaker } };
  const gone = { name: "gone", match: { path: "/gone" }, access: "public", to: [{ upstream: "away" }] };
  const free = { name: "free", match: { path: "/free2" }, access: "public", respond: { text: "x" } };
  await routed({ upstreams, routes: [gone, free] }, (status) => status === 200, "/free2");
  const code = () =>
    new Promise<string>((resolve, reject) => {
      const asked = request({ host: "127.0.0.1", port, path: "/gone", agent: false, rejectUnauthorized: false });
      asked.once("error", reject).once("response", (response) => {
        let text = "";
        response.on("data", (part: Buffer) => (text += part.toString()));
        response.once("end", () => resolve(/[A-Z]+_[A-Z_]+|UNAVAILABLE/.exec(text)?.[0] ?? text));
      });
      asked.end();
    });
  let failed = 0;
  while ((await code()) !== "GATEWAY_BREAKER_OPEN") assert.ok(++failed < 20, "it never opens");
  const then: string[] = [];
  for (let i = 0; i < 40; i++) then.push(await code());
  // The first may come before the message.
  assert.deepEqual([...new Set(then.slice(2))], ["GATEWAY_BREAKER_OPEN"], then.join());
});

test("a change of the routes fails no request, and both workers have it", async () => {
  const said = (text: string) => ({
    routes: [{ name: "said", match: { path: "/said" }, access: "public", respond: { text } }],
  });
  await routed(said("one"), (status) => status === 200, "/said");
  const seen = await during(() => routed(said("two"), (status) => status === 200, "/said"), "/said");
  assert.deepEqual([...seen.keys()], [200]);
});

test("a rolling restart of both doors and of everybody behind them fails no request", async () => {
  const all = await processes();
  const seen = await during(async () => {
    for await (const { pid } of node.control.restart({ services: [] }, call(120_000))) assert.ok(isAlive(pid));
  });
  assert.deepEqual([...seen.keys()], [200], JSON.stringify([...seen]));
  const now = await processes();
  assert.equal(now.length, all.length);
  for (const { pid } of all) assert.ok(!now.some((one) => one.pid === pid));
});
