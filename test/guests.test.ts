import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { after, before, test } from "node:test";
import { parse } from "yaml";
import { type LocalNode, localNode } from "../src/cli/local-node.ts";
import { checkConfig } from "../src/kernel/config.ts";
import { NodeConfig } from "../src/node/config.ts";
import { type Ask, gatewayDoor } from "./houses/ask.ts";
import { Whole } from "./houses/whole.ts";

const ROOT = join(import.meta.dirname, "..");
const boiler = {
  file: join(ROOT, "examples/device-boiler"),
  needs: ["bus", "core-metadata"],
  config: { every: "500ms" },
};
const house = new Whole({
  args: ["--no-cloud", "--only", "trace,bus,core-metadata,gateway"],
  services: { "device-boiler": boiler, "not-there": { file: "nowhere.ts" } },
});
const running: ChildProcess[] = [];

let ask: Ask;
let node: LocalNode;
before(async () => {
  await house.start();
  ask = await gatewayDoor(house);
  node = localNode(house.state);
});
after(async () => {
  node?.close();
  for (const child of running) child.kill("SIGKILL");
  await house.remove();
});

interface Run {
  readonly child: ChildProcess;
  text(): string;
  said(pattern: RegExp): Promise<RegExpExecArray>;
  readonly ended: Promise<unknown>;
}

/** Starts `holdfast run` as a person does. */
function run(...args: string[]): Run {
  const child = spawn(house.command, ["run", ...args, "--state", house.state], { env: house.env });
  running.push(child);
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (part) => (text += part));
  const ended = once(child, "close").then(([status]) => status as unknown);
  const said = async (pattern: RegExp) => {
    await house.until(() => pattern.test(text), `'${pattern.source}' in:\n${text}`);
    return pattern.exec(text)!;
  };
  return { child, text: () => text, said, ended };
}

const refusalOf = async (...args: string[]): Promise<string> => {
  const refused = run(...args);
  assert.notEqual(await refused.ended, 0);
  return refused.text().replace(/\s+/g, " ");
};

const serviceOf = async (name: string) =>
  (await node.client.status({}, node.call(10_000))).services.find(({ service }) => service === name);

/** Writes a service's file. */
function written(name: string, text: string): string {
  const directory = join(house.directory, "theirs", name);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "main.ts"), text);
  return directory;
}

test("a service of one's own joins a running node, is called at the gateway, comes back when it is killed, and ends with Ctrl-C", async () => {
  const greeter = run(join(ROOT, "examples/greeter/main.ts"));
  await greeter.said(/greeter is passing/);
  const greet = async () => (await ask("GET", "/greeter/api/v3/greet/Ada")).body;
  assert.deepEqual(await greet(), { text: "Hello, Ada!" });
  await greeter.said(/somebody was greeted/);
  const { pid } = (await serviceOf("greeter"))!;
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  assert.match(status, /^Seccomp:\s+2$/m);
  assert.match(status, /^CapBnd:\s+0+$/m);
  if (process.getuid?.() === 0) assert.doesNotMatch(status, /^Uid:\s+0\s/m);
  process.kill(pid, "SIGKILL");
  await greeter.said(/greeter is restarting: ended by SIGKILL[^]*greeter is passing/);
  assert.deepEqual(await greet(), { text: "Hello, Ada!" });
  greeter.child.kill("SIGINT");
  assert.equal(await greeter.ended, 0);
  assert.equal(await serviceOf("greeter"), undefined);
  assert.ok(!existsSync(join(house.state, "guests", "greeter")), "its bundle is gone");
});

test("one that the config names is there after the node's start, does its work, and one that cannot be made says why", async () => {
  const asked = async () => (await ask("GET", "/core-metadata/api/v3/device/name/boiler-1")).status;
  await house.until(async () => (await asked()) === 200, "the boiler at core-metadata");
  assert.equal((await serviceOf("device-boiler"))?.state, "passing");
  assert.match((await serviceOf("not-there"))?.reason ?? "", /there is no file .*nowhere\.ts/);
});

test("docs/third-party.md's service runs by its command, and goes with whoever ends without a word", async () => {
  const page = readFileSync(join(ROOT, "docs/third-party.md"), "utf8");
  const block = (language: string) => new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\``, "m").exec(page)![1];
  const [, , folder, ...args] = block("sh").trim().split(" ");
  const declared = parse(block("yaml")) as { node: { services: Record<string, object> } };
  assert.deepEqual(Object.keys(declared.node.services), ["alarm"]);
  checkConfig(NodeConfig, declared.node, "node");
  const alarm = run(written(basename(folder), block("ts")), ...args);
  await alarm.said(/alarm is passing/);
  const heard = async () => Number((await ask("GET", "/alarm/api/v3/heard")).body["events"]);
  await house.until(async () => (await heard()) > 0, "events of the boiler");
  alarm.child.kill("SIGKILL");
  await house.until(async () => !(await serviceOf("alarm")), "the end of the service");
});

test("what cannot be run is refused, with what to do", async () => {
  const greeter = join(ROOT, "examples/greeter");
  const boilerFile = join(ROOT, "examples/device-boiler");
  assert.match(
    await refusalOf("/nowhere/at-all.ts"),
    /there is no file \/nowhere\/at-all\.ts \(NODE_GUEST_FILE_MISSING\)/,
  );
  assert.match(
    await refusalOf(greeter, "--needs", "buss"),
    /'buss' is no service of this node; there are: .*bus, .*NODE_GUEST_NEED_UNKNOWN/,
  );
  assert.match(
    await refusalOf(boilerFile, "--name", "device-other", "--needs", "bus"),
    /device-other needs core-metadata, which it was not granted \(NODE_GUEST_NEED_MISSING\)/,
  );
  assert.match(
    await refusalOf(greeter, "--name", "core-data"),
    /stands for somebody of the house \(NODE_GUEST_NAME_TAKEN/,
  );
  assert.match(await refusalOf(boilerFile, "--needs", "bus,core-metadata"), /runs already \(NODE_GUEST_NAME_TAKEN/);
  assert.match(await refusalOf(written("none", "export const other = 1;")), /exports no 'main'.*NODE_GUEST_UNUSABLE/);
  assert.match(await refusalOf(written("typo", "export const main = ;")), /main\.ts:1: .*NODE_GUEST_UNUSABLE/);
  const secret = join(house.directory, "secret.json");
  writeFileSync(secret, '{"password":"x"}');
  const thief = 'import secret from "../../secret.json"; console.error(secret); export const main = secret;';
  assert.match(await refusalOf(written("thief", thief)), /is not a file of the service/);
});

/** Tries what it was not granted, and says in its log what came of it. */
const HOSTILE = `
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { contract, defineService, makeCall } from "@holdfast/edge/service";
import { bus, coreMetadata } from "@holdfast/edge/contracts";

export const main = defineService({
  contract: contract("stranger", {}),
  needs: ["bus"],
  async start({ connect: to, log, name, stopping }) {
    const call = () => makeCall({ caller: name, timeoutMs: 5_000, signal: stopping });
    const first = async (stream) => { for await (const item of stream) return item; };
    const attempts = {
      listen: () => first(to(bus).listen({ topics: ["edgex/system-events/#"], begin: true }, call())),
      granted: () => first(to(bus).listen({ topics: ["edgex/events/device/#"], begin: true }, call())),
      publish: () => to(bus).publish({ body: { topic: "edgex/events/device/device-boiler/a/b/c", payload: Buffer.from("{}") } }, call()),
      command: () => to(bus).publish({ body: { topic: "edgex/core/command/request/a/b/set", payload: Buffer.from("{}") } }, call()),
      metadata: () => to(coreMetadata).deleteDevice({ name: "boiler-1" }, call()),
      write: async () => writeFileSync(process.cwd() + "tmp-stranger", "x"),
    };
    const came: Record<string, string> = {};
    for (const [what, attempt] of Object.entries(attempts))
      came[what] = await attempt().then(() => "done", (error) => error.code ?? String(error));
    log.warn(came, "the attempts are over");
    return { service: {} };
  },
});
`;

test("what a service was not granted is refused by the house, not only by its sandbox, and is in the audit trail", async () => {
  // Even where its sandbox lets it connect to the port, its certificate is not for core-metadata.
  const port = /:(\d+)$/.exec((await serviceOf("core-metadata"))!.address!)![1];
  const file = written("stranger", HOSTILE);
  const granted = ["--needs", "bus,bus:edgex/events/#", "--connect", port, "--memory", "64"];
  const stranger = run(file, ...granted);
  await stranger.said(/the attempts are over/);
  const wanted = {
    listen: "BUS_TOPIC_REFUSED",
    granted: "done",
    publish: "BUS_TOPIC_REFUSED",
    command: "BUS_TOPIC_REFUSED",
    metadata: "CALLER_REFUSED",
    write: "E(ROFS|ACCES)",
  };
  for (const [what, how] of Object.entries(wanted)) assert.match(stranger.text(), new RegExp(`${what}=${how}`));
  stranger.child.kill("SIGINT");
  assert.equal(await stranger.ended, 0);
  await house.until(async () => {
    const lines = await house.text("audit", "--who", "stranger");
    return /denied.*bus listen/.test(lines) && /denied.*core-metadata deleteDevice/.test(lines);
  }, "both refusals in the audit trail");
  await house.until(async () => {
    const lines = await house.text("audit", "--service", "node");
    return /service\.start.*stranger/.test(lines) && /service\.end.*greeter/.test(lines) && /node end/.test(lines);
  }, "starts, ends and what a person asked for in the audit trail");
});
