import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { inTurn } from "./turn.ts";

const place = mkdtempSync(join(tmpdir(), "holdfast-turn-"));
after(() => rmSync(place, { recursive: true, force: true }));

/** Something to be made, and how often it was, and by how many at once. */
function thing(name: string) {
  const [lock, file] = [join(place, `${name}.lock`), join(place, name)];
  const seen = { made: 0, making: 0, makingMost: 0 };
  const isMade = () => existsSync(file);
  const make = async (): Promise<void> => {
    seen.makingMost = Math.max(seen.makingMost, ++seen.making);
    await new Promise((resolve) => setImmediate(resolve));
    seen.making--;
    seen.made++;
    writeFileSync(file, "");
  };
  return { lock, seen, isMade, make };
}

test("many that want the same at once make it once, and all find it", async () => {
  const { lock, seen, isMade, make } = thing("once");
  await Promise.all(Array.from({ length: 8 }, () => inTurn(lock, isMade, make)));
  assert.deepEqual(seen, { made: 1, making: 0, makingMost: 1 });
  assert.equal(existsSync(lock), false);
});

test("the turn of a process that was killed is taken over", async () => {
  const { lock, seen, isMade, make } = thing("left");
  const { pid } = spawnSync(process.execPath, ["--version"]);
  writeFileSync(lock, String(pid));
  await inTurn(lock, isMade, make);
  assert.equal(seen.made, 1);
});

test("one that fails lets the next try", async () => {
  const { lock, seen, isMade, make } = thing("failed");
  await assert.rejects(
    inTurn(lock, isMade, () => Promise.reject(new Error("no room"))),
    /no room/,
  );
  await inTurn(lock, isMade, make);
  assert.equal(seen.made, 1);
});

test("what is made already takes no turn", async () => {
  const { lock, seen, isMade, make } = thing("there");
  await make();
  await inTurn(lock, isMade, () => Promise.reject(new Error("not wanted")));
  assert.equal(seen.made, 1);
  assert.equal(existsSync(lock), false);
});
