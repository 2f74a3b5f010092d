import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { confinementFacts, whatIsMissing } from "./facts.ts";
import { uidOf, uidsTaken } from "./uids.ts";

test("each fact that a machine lacks says what that costs, and one that it has costs nothing", () => {
  const facts = confinementFacts();
  const { landlockAbi, landlockPorts, seccomp, root, tpm } = facts;
  for (const { value, costs } of [landlockAbi, landlockPorts, seccomp, root, tpm])
    assert.equal(costs === undefined, Boolean(value));
  assert.deepEqual(
    whatIsMissing(facts),
    Object.values(facts).flatMap(({ costs }): (typeof costs)[] => (costs === undefined ? [] : [costs])),
  );
});

test("every service has a uid and two groups of its own", () => {
  const all = Array.from({ length: 100 }, (_, index) => uidOf(index));
  assert.equal(new Set(all.map(({ uid }) => uid)).size, 100);
  assert.equal(new Set(all.flatMap(({ gid, launchGid }) => [gid, launchGid])).size, 200);
  for (const index of [-1, 100, 0.5]) assert.throws(() => uidOf(index), { code: "NODE_UID_RANGE" });
  for (const base of [0, 999, 65_001]) assert.throws(() => uidOf(0, base), { code: "NODE_UID_RANGE" });
});

test("a user or group that has one of the ids is named", () => {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-uids-"));
  const files = { passwd: join(directory, "passwd"), group: join(directory, "group") };
  writeFileSync(files.passwd, "root:x:0:0::/:/bin/sh\nintruder:x:60801:100::/:/bin/sh\nnext:x:60900:100::/:/bin/sh\n");
  writeFileSync(files.group, "staff:x:60999:\nroot:x:0:\n");
  assert.deepEqual(uidsTaken(60_800, files), ["intruder (uid 60801)", "staff (gid 60999)"]);
  assert.deepEqual(uidsTaken(60_800, { passwd: join(directory, "none"), group: join(directory, "none") }), []);
  rmSync(directory, { recursive: true });
});
