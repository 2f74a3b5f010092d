import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { landlockAbi } from "../src/node/confine/landlock.ts";
import { launcherFile } from "../src/node/confine/launcher.ts";
import { archOf } from "../src/node/confine/libc.ts";
import { confinementOf } from "../src/node/confine/plan.ts";
import { spawnConfined } from "../src/node/confine/spawn.ts";

const root = join(import.meta.dirname, "..");
/** Landlock rules ports from this ABI on; before it nothing keeps a service from any port. */
const ABI_PORTS = 4;

/** Runs the child confined as the pipeline is, with these ports, and gives what it says. */
async function sendConfined(connectPorts: number[], asked: object, directory: string): Promise<string[]> {
  const launcherPath = join(directory, "launcher");
  writeFileSync(launcherPath, launcherFile(archOf()), { mode: 0o700 });
  const plan = confinementOf({
    service: "pipeline",
    nodePath: process.execPath,
    script: join(root, "test/houses/destination.child.ts"),
    codeDirs: [root, realpathSync(join(root, "node_modules"))],
    stateDir: directory,
    connectPorts,
    bindPorts: [0],
    udp: true,
  });
  const child = spawnConfined({ plan, stdio: ["pipe", "pipe", "inherit"], launcherPath });
  (child.stdin as Writable).end(JSON.stringify(asked));
  const [said] = await Promise.all([text(child.stdout!), once(child, "exit")]);
  return JSON.parse(said) as string[];
}

test("in the sandbox names are found, own addresses are chosen, and a port that is not allowed says which key allows it", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-sandbox-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const from: (string | undefined)[] = [];
  const listen = async () => {
    const server = createServer((request, response) => {
      from.push(request.socket.remoteAddress);
      request.resume().once("end", () => response.writeHead(204).end());
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => server.close());
    return (server.address() as AddressInfo).port;
  };
  const [allowed, other] = [await listen(), await listen()];
  const ways = [
    { url: `http://localhost:${allowed}/` },
    { url: `http://127.0.0.1:${allowed}/`, localAddress: "127.0.0.3" },
    { url: `http://127.0.0.1:${other}/` },
  ];
  const asked = { ways, enroll: `https://127.0.0.1:${other}` };
  const [byName, byAddress, forbidden, enrolled] = await sendConfined([allowed], asked, directory);
  assert.deepEqual([byName, byAddress, from[1]], ["durable 1", "durable 1", "127.0.0.3"]);
  if (landlockAbi() < ABI_PORTS) return assert.equal(forbidden, "durable 1");
  const words = `the sandbox does not let the pipeline connect to port ${other}: allow it with 'node.connectPorts: { pipeline: [${other}] }' in the config, and start anew`;
  assert.equal(forbidden, `PIPELINE_PORT_FORBIDDEN ${words}`);
  assert.equal(enrolled, `the cloud at ${asked.enroll} did not enroll this node: ${words}`);
});
