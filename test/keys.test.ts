import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
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

const CLI = join(import.meta.dirname, "..", "src/cli/main.ts");
const SECRET = "s3cret-of-the-broker-4711";
let place: Place;

before(async () => {
  await testCode();
  place = makePlace("test-service: { greetingFile: 'secret:greeting' }\n");
});
after(() => {
  node.close();
  place.remove();
  removeCode();
});

/** Runs a command of the CLI on the place's node; what it reads comes over a pipe. */
async function holdfast(
  args: readonly string[],
  options: { input?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Ran> {
  return ran(process.execPath, [CLI, ...args, "--state", place.state], options);
}
interface Ran {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}
async function ran(
  command: string,
  args: readonly string[],
  options: { input?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Ran> {
  const child = spawn(command, args, { env: { ...process.env, ...options.env } });
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
  child.stdin.end(options.input ?? "");
  const [status] = (await once(child, "close")) as [number];
  return { status, out, err };
}
const fine = async (...args: Parameters<typeof holdfast>): Promise<string> => {
  const { status, out, err } = await holdfast(...args);
  assert.equal(status, 0, out + err);
  return out;
};
const filesOf = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, encoding: "utf8" })
    .map((name) => join(directory, name))
    .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile());

let node: RunningNode;
const stop = async (): Promise<void> => {
  await node.control.stop({}, call());
  await node.ended;
  node.close();
};

test("a secret reaches the service that names it, at its next start, and lies nowhere in the open", async () => {
  node = await startNode(place);
  await node.wrote(/no such secret/);
  assert.match(await fine(["secret", "set", "greeting"], { input: `${SECRET}\n` }), /is kept/);
  await node.wrote(/Running: 3 services/);
  assert.deepEqual(await node.control.secrets({}, call()), { names: ["greeting"] });
  assert.equal((await node.door.echo({ text: "x" }, call(20_000))).greeting, SECRET);
  for (const [service, pid] of await node.pids())
    for (const file of ["cmdline", "environ"])
      assert.ok(!readFileSync(`/proc/${pid}/${file}`, "latin1").includes(SECRET), `${file} of ${service}`);
  for (const file of filesOf(place.state))
    for (const form of [SECRET, Buffer.from(SECRET).toString("base64").slice(2, -2)])
      assert.ok(!readFileSync(file, "latin1").includes(form), file);
  const { lines } = await node.control.logs({ lines: 1000 }, call());
  assert.ok(!lines.join("\n").includes(SECRET), "the log book has it");
  assert.ok(!node.output().includes(SECRET), "it was written to the terminal");
  for (const body of [
    { name: "UPPER", value: "x" },
    { name: "empty", value: "" },
  ])
    await assert.rejects(node.control.setSecret({ body }, call()), { code: "NODE_SECRET_INVALID" });
  await assert.rejects(node.control.removeSecret({ body: { name: "nobody" } }, call()), {
    code: "NODE_SECRET_UNKNOWN",
  });
});

test("keys rotate while the node works, and a process that comes back has them all", async () => {
  const old = await node.control.keys({}, call());
  const rotating = fine(["keys", "rotate", "--json"]);
  let answered = 0;
  for (let isDone = false; !isDone;) {
    assert.equal((await node.door.echo({ text: "x" }, call())).text, "x");
    answered++;
    isDone = (await Promise.race([
      rotating.then(() => true),
      new Promise((done) => setImmediate(done, false)),
    ])) as boolean;
  }
  assert.ok(answered > 10, `${answered} answers during the rotation`);
  const { rotated } = JSON.parse(await rotating) as { rotated: { store: string; error?: string }[] };
  assert.deepEqual(rotated.map(({ store }) => store).sort(), ["core-keeper", "identity", "test-service"]);
  for (const { store, error } of rotated) assert.equal(error, undefined, store);
  const now = await node.control.keys({}, call());
  assert.ok(now.kekAtMs > old.kekAtMs);
  for (const { name, keys } of now.stores)
    assert.equal(keys, (old.stores.find((store) => store.name === name)?.keys ?? 0) + (name === "log" ? 0 : 1), name);
  const pid = (await node.pids()).get("core-keeper")!;
  process.kill(pid, "SIGKILL");
  await until(
    () => !isAlive(pid),
    () => "the end of the registry",
  );
  await until(
    async () => (await node.control.status({}, call())).services.every(({ state }) => state === "passing"),
    () => "the registry to come back",
  );
});

test("docs/keys.md does what it says, and an escrow key opens the keys when what sealed them is lost", async () => {
  const media = join(place.state, "..");
  const page = readFileSync(join(import.meta.dirname, "..", "docs/keys.md"), "utf8");
  const blocks = [...page.matchAll(/^```sh\n([\s\S]*?)^```/gm)].map(([, text = ""]) =>
    text.replaceAll("/media/usb", media),
  );
  const passphrase = join(media, "passphrase");
  writeFileSync(passphrase, "kelp holds in any storm\n");
  const script = `holdfast() {
    case "$*" in
      *passphrase) HOLDFAST_PASSPHRASE_FILE=${passphrase} ${process.execPath} ${CLI} "$@" --state ${place.state} ;;
      *--state*) ${process.execPath} ${CLI} "$@" ;;
      *) ${process.execPath} ${CLI} "$@" --state ${place.state} ;;
    esac
  }\nset -e\n`;
  const env = { HOLDFAST_CONFIG: place.config, password: SECRET };
  const run = (text: string | undefined) => ran("sh", ["-c", script + text], { env });
  const last = blocks.pop();
  let out = "";
  for (const block of blocks) {
    const done = await run(block);
    assert.equal(done.status, 0, block + done.out + done.err);
    out += done.out;
  }
  await node.ended;
  node.close();
  for (const said of [
    /sealed by +the key-file/,
    /opens the keys, too/,
    /test-service +\d/,
    /sealed by +the passphrase/,
    /^broker$/m,
    /the escrow key opens it/,
    /the key-file seals the keys here/,
  ])
    assert.match(out, said);
  assert.equal(statSync(join(media, "escrow.pem")).mode & 0o777, 0o600);
  // The key file is lost.
  renameSync(place.keyFile, `${place.keyFile}.away`);
  const recovered = await run(last);
  assert.match(recovered.out, /sealed by +the key-file/, recovered.err);
  node = await startNode(place);
  await node.wrote(/Running: 3 services/);
  assert.equal((await node.door.echo({ text: "x" }, call())).greeting, SECRET);
  assert.match(
    (await holdfast(["keys", "reseal", "--escrow-key", join(media, "escrow.pem")])).err,
    /NODE_STATE_LOCKED/,
  );
  await stop();
});

test("a restored node answers as the old one did", async () => {
  // Its keys were sealed by the key file that was there then.
  renameSync(`${place.keyFile}.away`, place.keyFile);
  node = await startNode({ ...place, state: join(place.state, "..", "other") });
  await node.wrote(/Running: 3 services/);
  assert.equal((await node.door.echo({ text: "x" }, call(20_000))).greeting, SECRET);
  await stop();
});
