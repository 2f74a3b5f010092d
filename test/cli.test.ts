import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type IncomingHttpHeaders } from "node:http2";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { parseJson } from "../src/kernel/json.ts";
import { NODE_VERSION } from "../src/node/version.ts";
import { Whole } from "./houses/whole.ts";

/** One node, as a person starts it, for all that is asked of it here. */
const whole = new Whole();
const COMMAND = join(import.meta.dirname, "..", "bin", "holdfast");
const DEVICE = "virtual-1";
/** device-virtual reads every ten seconds. */
const TWO_READINGS_MS = 30_000;

before(() => whole.start(), { timeout: 120_000 });
after(() => whole.remove());

interface Ended {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Waits for a command's end, whatever its status. */
async function endOf(running: Promise<{ stdout: string; stderr?: string }>): Promise<Ended> {
  try {
    const { stdout, stderr = "" } = await running;
    return { status: 0, stdout, stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { status: code, stdout, stderr };
  }
}

/** Runs a command as a person does. */
const run = (...args: string[]): Promise<Ended> => endOf(promisify(execFile)(COMMAND, args));
/** Asks the node that runs here, by the same code in a process that has been started already. */
const ask = (...args: string[]): Promise<Ended> => endOf(whole.text(...args).then((stdout) => ({ stdout })));

interface Reading {
  readonly id: string;
  readonly origin: bigint;
  readonly deviceName: string;
  readonly resourceName: string;
  readonly value: string;
}

async function readingsOf(...args: string[]): Promise<Reading[]> {
  const { stdout } = await ask("readings", ...args, "--json");
  return (parseJson(stdout) as { readings: Reading[] }).readings;
}

/** Waits until the device was read. */
const untilRead = (resource: string): Promise<void> =>
  whole.until(async () => (await readingsOf(DEVICE, "--resource", resource)).length > 0, `a reading of ${resource}`);

test("every question has an answer in JSON, one value on one line", async () => {
  await untilRead("Float64");
  const questions = [
    ["status"],
    ["devices"],
    ["devices", DEVICE],
    ["readings"],
    ["read", DEVICE, "floats"],
    ["write", DEVICE, "Float64", "Float64=21.5"],
    ["backlog"],
    ["top", "--minutes", "1"],
    ["spans", "--service", "gateway", "--since", "10m"],
    ["slow", "--limit", "5"],
    ["errors", "--since", "1d"],
    ["token"],
    ["ca"],
    ["cloud", "edges"],
    ["cloud", "code"],
  ];
  for (const question of questions) {
    const { status, stdout, stderr } = await ask(...question, "--json");
    assert.equal(status, 0, `${question.join(" ")}: ${stderr}`);
    assert.match(stdout, /^[^\n]+\n$/, question.join(" "));
    assert.equal(typeof parseJson(stdout), "object", question.join(" "));
  }
});

test("what a program reads through a pipe has no colours, and errors are not in it", async () => {
  for (const question of [["status"], ["devices", DEVICE], ["backlog"], ["top"], ["logs"], ["doctor", "--all"]]) {
    const { stdout } = await run(...question, "--state", whole.state);
    assert.ok(!stdout.includes("\u001B"), question.join(" "));
  }
  const { stdout, stderr } = await run("read", DEVICE, "no-such-command", "--state", whole.state);
  assert.equal(stdout, "");
  assert.match(stderr, /^holdfast: .*no-such-command.*\(DEVICE_COMMAND_UNKNOWN\)\n {10}\S/);
});

test("the exit status tells a failure, a wrong call, a node that does not run, and a wrong name apart", async () => {
  const statuses: readonly (readonly [status: number, args: string[]])[] = [
    [0, ["status"]],
    [1, ["enroll", "https://127.0.0.1:1", "no-code"]],
    [1, ["write", DEVICE, "Int8", "Int8=4000"]],
    [2, ["readings", "--limti", "3"]],
    [2, ["trace"]],
    [2, ["token", "--role", "king"]],
    [4, ["readings", "no-such-device"]],
    [4, ["devices", "no-such-device"]],
    [4, ["trace", "00000000-0000-4000-8000-000000000001"]],
  ];
  for (const [status, args] of statuses)
    assert.equal((await run(...args, "--state", whole.state)).status, status, args.join(" "));
  const nowhere = await run("status", "--state", join(whole.directory, "nowhere"));
  assert.equal(nowhere.status, 3);
  assert.match(
    nowhere.stderr,
    /^holdfast: no node runs on the state directory .*nowhere \(NODE_NOT_RUNNING\)\n {10}Start the node/,
  );
  assert.equal((await run("no-such-command")).status, 2);
});

test("a value that is written to a device is the one that is read, and its reading comes to core-data and the cloud", async () => {
  assert.match((await ask("write", DEVICE, "floats", "Float32=1.5", "Float64=-2.25")).stdout, /^2 values written/);
  const read = await ask("read", DEVICE, "floats", "--push");
  assert.match(read.stdout, /^Float32 +1\.5 +Float32$/m);
  assert.match(read.stdout, /^Float64 +-2\.25 +Float64$/m);
  await whole.until(
    async () => (await readingsOf(DEVICE, "--resource", "Float64")).some(({ value }) => Number(value) === -2.25),
    "the reading in core-data",
  );
  const { edges } = await whole.json<{ edges: { edge: string }[] }>("cloud", "edges");
  const edge = edges[0]?.edge ?? "";
  await whole.until(
    async () => (await whole.text("cloud", "readings", edge, DEVICE)).includes("Float64  -2.25"),
    "the reading in the cloud",
  );
  assert.match((await ask("cloud", "audit", edge)).stdout, /each once, in order, with no gap/);
});

test("the story of a reading goes from the device to the cloud, and that of a request over all its services", async () => {
  await untilRead("Float64");
  const [reading] = await readingsOf(DEVICE, "--resource", "Float64", "--limit", "1");
  await whole.until(
    async () => (await ask("trace", reading.id)).stdout.includes("kept by the cloud after"),
    "the cloud's step",
  );
  // Each service ships its own steps, when it likes.
  let story = "";
  const steps = ["device-virtual: read", "bus: append", "core-data: keep", "pipeline: send", "cloud: accept"];
  await whole.until(
    async () => (story = (await ask("trace", reading.id)).stdout) !== "" && steps.every((step) => story.includes(step)),
    "all steps of the reading",
  );

  await ask("write", DEVICE, "Int8", "Int8=7");
  const isTheRequest = (line: { service: string; upstream?: string; method?: string }) =>
    line.service === "gateway" && line.upstream === "core-command" && line.method === "PUT";
  let requestId = "";
  await whole.until(async () => {
    const lines = (await ask("logs", "--json", "--lines", "400")).stdout.trim().split("\n");
    const parsed = lines.map((line) => JSON.parse(line) as { service: string; requestId: string });
    requestId = parsed.findLast(isTheRequest)?.requestId ?? "";
    return requestId !== "";
  }, "the gateway's line of the request");
  for (const id of [requestId, requestId.slice(0, 8)]) {
    let told = "";
    const tree = /gateway: core-command write.*\n.*└ core-command: write.*\n.* └ device-virtual: write/;
    await whole.until(
      async () => tree.test((told = (await ask("trace", id, "--logs")).stdout)),
      "the steps of the request",
    );
    assert.match(told, /info {2}core-command +write 200/);
  }
});

test(
  "followed readings come each once, in lines of JSON, until nobody reads them any more",
  { timeout: 90_000 },
  async () => {
    const child = spawn(COMMAND, ["readings", DEVICE, "--follow", "--limit", "1", "--json", "--state", whole.state], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const ended = once(child, "exit");
    const seen: Reading[] = [];
    const late = setTimeout(() => child.kill(), TWO_READINGS_MS);
    for await (const line of createInterface({ input: child.stdout })) {
      seen.push(parseJson(line) as Reading);
      if (seen.length === 5) break;
    }
    clearTimeout(late);
    child.stdout.destroy();
    assert.equal(seen.length, 5);
    assert.equal(new Set(seen.map(({ id }) => id)).size, 5);
    assert.ok(seen.every(({ deviceName }) => deviceName === DEVICE));
    const origins = seen.map(({ origin }) => origin);
    assert.deepEqual(
      origins,
      [...origins].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0)),
    );
    assert.deepEqual(await ended, [0, null]);
  },
);

test("a token opens the gateway for what its role may, with the authority that 'ca' prints", async () => {
  const { stdout: ca } = await ask("ca");
  assert.match(ca, /^-----BEGIN CERTIFICATE-----\n[^]+-----END CERTIFICATE-----\n$/);
  const get = async (role: string, path: string, method = "GET") => {
    const { stdout: token } = await ask("token", "--role", role, "--for", "1m");
    assert.match(token, /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    const { request } = await import("node:https");
    return new Promise<number>((resolve, reject) => {
      const headers = { authorization: `Bearer ${token.trim()}`, "content-type": "application/json" };
      const asked = request(
        `https://127.0.0.1:${whole.gatewayPort}${path}`,
        { ca, method, headers, agent: false },
        (answer) => {
          answer.resume();
          resolve(answer.statusCode ?? 0);
        },
      );
      asked.on("error", reject);
      asked.end(method === "PUT" ? '{"Int8":"1"}' : undefined);
    });
  };
  const command = `/core-command/api/v3/device/name/${DEVICE}/Int8`;
  assert.equal(await get("viewer", "/core-data/api/v3/reading/all"), 200);
  assert.equal(await get("viewer", command, "PUT"), 403);
  assert.equal(await get("operator", command, "PUT"), 200);
});

test("a client that offers HTTP/2, as curl does by itself, gets its answer over HTTP/2", async () => {
  const [{ stdout: ca }, { stdout: token }] = await Promise.all([ask("ca"), ask("token", "--for", "1m")]);
  const session = connect(`https://127.0.0.1:${whole.gatewayPort}`, { ca });
  try {
    const stream = session.request({
      ":path": "/core-data/api/v3/reading/all?limit=1",
      authorization: `Bearer ${token.trim()}`,
    });
    const [headers] = (await once(stream, "response")) as [IncomingHttpHeaders];
    const chunks: Buffer[] = [];
    for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
    assert.equal(headers[":status"], 200);
    assert.equal((parseJson(Buffer.concat(chunks)) as { readings: unknown[] }).readings.length, 1);
  } finally {
    session.destroy();
  }
});

test("the doctor finds nothing that stops this node, and works where none runs", async () => {
  for (const state of [whole.state, join(whole.directory, "none-here")]) {
    const { stdout } = await run(
      "doctor",
      "--json",
      "--config",
      join(whole.directory, "holdfast.yaml"),
      "--state",
      state,
    );
    const { findings } = JSON.parse(stdout) as {
      findings: { name: string; state: string; says: string; costs?: string }[];
    };
    for (const name of ["node", "kernel", "seccomp", "clock", "state", "disk", "keys", "config"])
      assert.ok(
        findings.some((finding) => finding.name === name),
        `${name} was not looked at`,
      );
    for (const { state: found, says, costs } of findings) {
      if (found === "lacks") assert.ok(costs, `what '${says}' costs is not said`);
    }
    assert.ok(
      findings.every((finding) => finding.name.startsWith("port-") || finding.state !== "stops"),
      stdout,
    );
  }
});

test("'version' and 'help' need no node", async () => {
  assert.match((await run("version")).stdout, new RegExp(`^holdfast ${NODE_VERSION} \\(Node `));
  const overview = await run("help");
  for (const name of ["start", "status", "trace", "doctor"])
    assert.match(overview.stdout, new RegExp(`^ {2}${name} +[A-Z]`, "m"));
  assert.equal((await run("trace", "--help")).stdout, (await run("help", "trace")).stdout);
});

test("the commands of the pages on certificates and audit do what they say, and the trail they leave is whole", async () => {
  const pid = (await whole.pids()).get("device-virtual");
  const trail = async () => JSON.parse((await ask("audit", "verify", "--json")).stdout) as { findings: string[] };
  assert.deepEqual((await trail()).findings, []);
  for (const page of ["certificates", "audit"]) {
    const text = readFileSync(join(import.meta.dirname, `../docs/${page}.md`), "utf8");
    const commands = [...text.matchAll(/^npx holdfast (.+)$/gm)].map(([, words]) => words.split(" "));
    assert.ok(commands.length >= 4, page);
    for (const words of commands) {
      const { status, stdout, stderr } = await ask(...words);
      assert.equal(status, 0, `${words.join(" ")}: ${stdout}${stderr}`);
    }
  }
  await whole.until(async () => {
    const now = (await whole.pids()).get("device-virtual");
    return now !== undefined && now !== 0 && now !== pid;
  }, "device-virtual to be started anew");
  const { stdout } = await ask("audit", "search", "--json", "--limit", "1000");
  const actions = new Set(
    stdout.split("\n").flatMap((line) => (line ? [(JSON.parse(line) as { action: string }).action] : [])),
  );
  for (const action of [
    "certificate.join",
    "token.issue",
    "device.code",
    "certificate.revoke",
    "authority.rotate",
    "authority.next",
  ])
    assert.ok(actions.has(action), `${action} is not in the trail`);
  assert.deepEqual((await trail()).findings, []);
});

test(
  "after a stop every question says that no node runs, and so it does after the node was killed",
  { timeout: 120_000 },
  async () => {
    await whole.killSupervisor();
    const killed = await ask("status");
    assert.equal(killed.status, 3);
    assert.match(killed.stderr, /its socket is left over from the last one \(NODE_NOT_RUNNING\)/);
    await whole.start();
    assert.equal((await ask("stop")).stdout, "stopped\n");
    for (const question of [["readings"], ["token"], ["logs"], ["cloud", "edges"]]) {
      const { status, stdout } = await ask(...question);
      assert.deepEqual([status, stdout], [3, ""], question.join(" "));
    }
  },
);
