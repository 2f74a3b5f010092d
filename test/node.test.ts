import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Value } from "typebox/value";
import { keyFileProvider } from "../src/kernel/seal/key-file.ts";
import { openKeyRing } from "../src/kernel/seal/keyring.ts";
import { ServiceStatus } from "../src/node/api.ts";
import { listenTcp } from "../src/node/confine/listen.ts";
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

/** One node for the tests that leave it running. */
let place: Place;
let node: RunningNode;

before(async () => {
  await testCode();
  place = makePlace("test-service: { greeting: good morning }\n");
  node = await startNode(place);
  await node.wrote(/Running: 3 services/);
});
after(() => {
  node.close();
  place.remove();
  removeCode();
});

test("services come up after those they need, each with its config, and are known by name", async () => {
  const up = [...node.output().matchAll(/^ {2}up\s+(\S+)/gm)].map(([, name]) => name);
  assert.deepEqual(up, ["identity", "core-keeper", "test-service"]);
  const { services, node: name } = await node.control.status({}, call());
  for (const service of services) assert.ok(Value.Check(ServiceStatus, service), JSON.stringify(service));
  assert.deepEqual(
    services.map(({ service, state, restarts }) => ({ service, state, restarts })),
    up.map((service) => ({ service, state: "passing", restarts: 0 })),
  );
  assert.ok(node.output().includes(name));
  assert.equal((await node.door.echo({ text: "x" }, call())).greeting, "good morning");
  await allNeighbours(node);
});

test("no service can gain privileges or leave its filter", async () => {
  for (const [service, pid] of await node.pids()) {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    assert.match(status, /^NoNewPrivs:\s+1$/m, service);
    assert.match(status, /^Seccomp:\s+2$/m, service);
    assert.match(status, /^CapEff:\s+0+$/m, service);
  }
});

test("no key and no secret is in an argument, an environment or a file", async () => {
  const seen: string[] = [];
  for (const pid of [node.child.pid!, ...(await node.pids()).values()]) {
    for (const file of ["cmdline", "environ"]) {
      const text = readIfAllowed(`/proc/${pid}/${file}`);
      seen.push(text);
      // A key of 32 bytes is 43 characters in base64, 64 in hex; paths and plans have no such words.
      if (pid !== node.child.pid)
        assert.doesNotMatch(text, /(?<![\w/.-])[A-Za-z0-9+_-]{43,}={0,2}(?![\w/.-])/, `${file} of ${pid}`);
    }
  }
  const ring = await openKeyRing({
    directory: join(place.state, "node"),
    stateDirectory: place.state,
    provider: keyFileProvider({ path: place.keyFile }),
  });
  for (const store of ring.stores()) {
    const key = await ring.dataKey(store);
    const forms = [
      key,
      Buffer.from(key.toString("base64")),
      Buffer.from(key.toString("base64url")),
      Buffer.from(key.toString("hex")),
    ];
    for (const form of forms) {
      for (const text of seen)
        assert.ok(!Buffer.from(text, "latin1").includes(form), `the key of ${store} is in an argument or environment`);
      for (const file of filesOf(place.state))
        assert.ok(!readFileSync(file).includes(form), `the key of ${store} is in ${file}`);
    }
  }
  assert.ok(ring.stores().includes("test-service"));
});

test("a service that is killed comes back, and who calls meanwhile waits and is not refused", async () => {
  const { pid } = await node.door.echo({ text: "before" }, call());
  process.kill(pid, "SIGKILL");
  await until(
    () => !isAlive(pid),
    () => "the end of the killed process",
  );
  const answer = await node.door.echo({ text: "after" }, call(20_000));
  assert.equal(answer.text, "after");
  assert.notEqual(answer.pid, pid);
  const { services } = await node.control.status({}, call());
  assert.equal(services.find(({ service }) => service === "test-service")?.restarts, 1);
});

test("identity that is killed comes back with the same authority, and others can join again", async () => {
  const { caPem } = await node.control.token({ body: { subject: "a", role: "viewer", lifetimeS: 60 } }, call());
  const pids = await node.pids();
  process.kill(pids.get("identity")!, "SIGKILL");
  process.kill(pids.get("test-service")!, "SIGKILL");
  await until(
    () => [...pids].every(([service, pid]) => service === "core-keeper" || !isAlive(pid)),
    () => "both ends",
  );
  assert.equal((await node.door.echo({ text: "x" }, call(20_000))).text, "x");
  // A question that may have been half asked when identity died is answered UNAVAILABLE, and asked again.
  const ask = () => node.control.token({ body: { subject: "a", role: "viewer", lifetimeS: 60 } }, call(20_000));
  let again: string | undefined;
  await until(
    async () => (again = (await ask().catch(() => undefined))?.caPem) !== undefined,
    () => "identity to answer",
  );
  assert.equal(again, caPem);
});

test("an error that nobody caught is in the log book and on the terminal, with its words", async () => {
  await node.door.end({ body: { words: "the pump fell over" } }, call());
  await node.wrote(/error test-service: the pump fell over/);
  await node.wrote(/again test-service .*the pump fell over/);
  const { lines } = await node.control.logs({ lines: 1000, service: "test-service" }, call());
  assert.ok(
    lines.some((text) => text.includes("the pump fell over") && text.includes("stack")),
    lines.join("\n"),
  );
});

test("a second node on the same state is refused with the pid of the first, and the first runs on", async () => {
  const second = await startNode(place);
  assert.equal(await second.ended, 78);
  assert.match(second.output(), new RegExp(`process ${node.child.pid}\\).*NODE_STATE_LOCKED`));
  assert.equal((await node.door.echo({ text: "still here" }, call(20_000))).text, "still here");
});

test("a port in use is refused with the key that chooses another", async () => {
  const other = makePlace();
  const taken = listenTcp({ host: "127.0.0.1", port: other.doorPort });
  const refused = await startNode(other);
  assert.equal(await refused.ended, 78);
  assert.match(refused.output(), /NODE_PORT_IN_USE/);
  assert.match(refused.output(), /node\.doors\.test-service\.plain\.port/);
  assert.equal(taken.port, other.doorPort);
  other.remove();
});

test("a config with an unknown key starts nothing", async () => {
  const other = makePlace("core-kepeer: { ttlMs: 5000 }\n");
  const refused = await startNode(other);
  assert.equal(await refused.ended, 78);
  assert.match(refused.output(), /'core-kepeer' is not a known key; did you mean 'core-keeper'\?/);
  other.remove();
});

test("a service that ends at every start is shown as a loop, and the rest works", async () => {
  const other = makePlace("test-service: { endsAtStart: true }\n");
  const looping = await startNode(other);
  await looping.wrote(/loop\s+test-service\s+ended 4 times in a row, .*this service was told to end/);
  const { services } = await looping.control.status({}, call());
  assert.deepEqual(
    services.map(({ service, state }) => [service, state === "passing"]),
    [
      ["identity", true],
      ["core-keeper", true],
      ["test-service", false],
    ],
  );
  looping.child.kill("SIGINT");
  assert.equal(await looping.ended, 0);
  other.remove();
});

test("Ctrl-C ends all in order within seconds, and a second start carries on as the same node", async () => {
  const token = await node.control.token({ body: { subject: "a", role: "viewer", lifetimeS: 60 } }, call());
  const pids = [...(await node.pids()).values()];
  const startMs = performance.now();
  node.child.kill("SIGINT");
  assert.equal(await node.ended, 0);
  assert.ok(performance.now() - startMs < 8_000);
  assert.match(node.output(), /stopped in \d+ ms$/m);
  assert.deepEqual(pids.filter(isAlive), []);
  node = await startNode(place);
  await node.wrote(/Running: 3 services/);
  assert.equal(
    (await node.control.token({ body: { subject: "a", role: "viewer", lifetimeS: 60 } }, call())).caPem,
    token.caPem,
  );
});

test("a supervisor that is killed takes all services with it, and the next start needs no hand", async () => {
  const pids = [...(await node.pids()).values()];
  node.child.kill("SIGKILL");
  assert.equal(await node.ended, "SIGKILL");
  await until(
    () => !pids.some(isAlive),
    () => `the end of ${pids.filter(isAlive).join(", ")}`,
  );
  node = await startNode(place);
  await node.wrote(/Running: 3 services/);
  assert.equal((await node.door.echo({ text: "again" }, call())).text, "again");
});

test("with --compact one process runs all services, and they answer as ever", async () => {
  const other = makePlace();
  const compact = await startNode(other, ["--compact"]);
  await compact.wrote(/Running: 3 services/);
  const pids = await compact.pids();
  assert.equal(new Set(pids.values()).size, 1);
  assert.equal((await compact.door.echo({ text: "small" }, call())).text, "small");
  await allNeighbours(compact);
  assert.ok(
    (await compact.control.token({ body: { subject: "a", role: "viewer", lifetimeS: 60 } }, call())).token.length > 50,
  );
  compact.child.kill("SIGTERM");
  assert.equal(await compact.ended, 0);
  other.remove();
});

/** Reads what a process shows of itself; a shielded one shows its environment to root alone, which is the stronger promise. */
function readIfAllowed(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, "EACCES");
    return "";
  }
}

const filesOf = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, encoding: "utf8" })
    .map((name) => join(directory, name))
    .filter((path) => statSync(path).isFile());

/** Waits until the service has heard of all: the registry tells it a moment after they are up. */
const allNeighbours = ({ door }: RunningNode) =>
  until(
    async () => (await door.neighbours({}, call())).services.join(" ") === "core-keeper identity test-service",
    () => "the service to know its neighbours",
  );
