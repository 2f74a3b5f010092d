/** Disk: no telemetry, name, token, key or password stands readable in any file of the node. */
import assert from "node:assert/strict";
import { globSync, readdirSync, readFileSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Whole } from "./houses/whole.ts";

/** Names and values that occur nowhere by chance. */
const DEVICE = "canary-device-q7x";
const TEXT = "canary-reading-w3k";

const house = new Whole({ config: `device-host: { deviceName: ${DEVICE}, interval: 500ms }\n` });
const startedMs = Date.now();
let token = "";
before(async () => {
  await house.start();
  token = (await house.text("token")).trim();
  // Written, read back as an event on the bus, and so through journal, core-data, outbox and cloud.
  await house.text("write", "virtual-1", "String", `String=${TEXT}`);
  await house.text("read", "virtual-1", "String", "--push");
  await house.until(async () => {
    const { edges } = await house.json<{ edges: { readings: number }[] }>("cloud", "edges");
    return (edges[0]?.readings ?? 0) > 100;
  }, "some readings to be at the cloud");
});
after(() => house.remove());

/** Every file below a directory; what goes while we look is gone. */
function* filesOf(directory: string): Generator<{ path: string; bytes: Buffer }> {
  for (const name of globSync("**/*", { cwd: directory })) {
    const path = join(directory, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (!stat?.isFile() || stat.size > 256 * 1024 * 1024) continue;
    yield { path, bytes: readFileSync(path) };
  }
}

const signature = () => token.split(".")[2] ?? "";

function findings(directory: string): string[] {
  const canaries = [DEVICE, TEXT, signature(), "PRIVATE KEY", "MemoryAvailable", "Holdfast-Virtual"];
  const found: string[] = [];
  for (const { path, bytes } of filesOf(directory)) {
    for (const canary of canaries) if (bytes.includes(canary)) found.push(`${path} holds '${canary}'`);
  }
  return found;
}

test("no canary of telemetry, token or key is found in any file of the state directory while the node runs", () => {
  assert.ok([...filesOf(house.state)].length > 10, "there are files to look at");
  assert.ok(signature().length > 20, "there is a token to look for");
  assert.deepEqual(findings(house.state), []);
});

test("nor after a power cut, nor in the temporary directories", async () => {
  await house.killSupervisor();
  assert.deepEqual(findings(house.state), []);
  // Temporary files of the node would be new ones: the machine's others are not ours to judge.
  const found = [tmpdir(), "/var/tmp", "/run"].flatMap((directory) =>
    readdirSync(directory).flatMap((name) => {
      const path = join(directory, name);
      const stat = statSync(path, { throwIfNoEntry: false });
      if (!stat?.isFile() || stat.mtimeMs < startedMs || stat.size > 16 * 1024 * 1024) return [];
      return [DEVICE, TEXT].some((canary) => readFileSync(path).includes(canary)) ? [path] : [];
    }),
  );
  assert.deepEqual(found, []);
  await house.start();
});
