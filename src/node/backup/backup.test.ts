import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { makeEscrowKey } from "../../kernel/seal/escrow.ts";
import { keyFileProvider } from "../../kernel/seal/key-file.ts";
import { openKeyRing } from "../../kernel/seal/keyring.ts";
import { backUp, restore } from "./backup.ts";

const base = mkdtempSync(join(tmpdir(), "backup-"));
after(() => rmSync(base, { recursive: true }));
const coded = (code: string, message = /./) => ({ name: "Failure", code, message });
let count = 0;
const place = (): string => join(base, String(count++));
const providerAt = (directory: string) => keyFileProvider({ path: join(directory, "key", "node.key") });
const escrow = makeEscrowKey();

/** A state directory with a ring, and files of sizes at the edges of chunks. */
async function someState(): Promise<{ state: string; key: Buffer }> {
  const at = place();
  const state = join(at, "state");
  const ring = await openKeyRing({ directory: join(state, "node"), stateDirectory: state, provider: providerAt(at) });
  await ring.escrow(escrow.publicKey);
  const key = await ring.dataKey("bus");
  mkdirSync(join(state, "bus", "journal"), { recursive: true, mode: 0o700 });
  for (const bytes of [0, 1, 1024 * 1024, 3 * 1024 * 1024 + 7])
    writeFileSync(join(state, "bus", "journal", `${bytes}.seg`), randomBytes(bytes), { mode: 0o600 });
  writeFileSync(join(state, "lock"), "1\n");
  return { state, key };
}
const listed = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((name) => name !== "lock" && !name.startsWith(join("node", "keyring")))
    .sort();

test("a restored node has every file and every key, sealed by its own machine", async () => {
  const { state, key } = await someState();
  const [file, there] = [join(place()), place()];
  const bytes = await backUp(state, file);
  assert.equal(statSync(file).size, bytes);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.ok(!readFileSync(file).includes("keyring.json"), "names of files are in the backup");
  const to = join(there, "state");
  const options = { from: file, escrowKey: escrow.privatePem, statePath: to, provider: providerAt(there) };
  assert.equal(await restore(options), 6);
  assert.deepEqual(listed(to), listed(state));
  for (const name of listed(state)) {
    const [was, is] = [state, to].map((at) => statSync(join(at, name)));
    assert.equal(is?.mode, was?.mode, name);
    if (was?.isFile()) assert.deepEqual(readFileSync(join(to, name)), readFileSync(join(state, name)), name);
  }
  const ring = await openKeyRing({ directory: join(to, "node"), stateDirectory: to, provider: providerAt(there) });
  assert.deepEqual(await ring.dataKey("bus"), key);
  await assert.rejects(restore(options), coded("NODE_RESTORE_IN_THE_WAY"));
});

test("a backup without an escrow key is refused, and one is never written over another", async () => {
  const at = place();
  const state = join(at, "state");
  await openKeyRing({ directory: join(state, "node"), stateDirectory: state, provider: providerAt(at) });
  await assert.rejects(backUp(state, join(at, "file")), coded("SEAL_ESCROW_MISSING"));
  const whole = await someState();
  writeFileSync(join(at, "file"), "precious");
  await assert.rejects(backUp(whole.state, join(at, "file")), coded("NODE_BACKUP_UNWRITABLE", /EEXIST/));
  assert.equal(readFileSync(join(at, "file"), "utf8"), "precious");
});

test("another key, a cut, an altered byte or a swapped part makes no node, and leaves nothing behind", async () => {
  const { state } = await someState();
  const file = place();
  await backUp(state, file);
  const whole = readFileSync(file);
  const there = place();
  const to = join(there, "state");
  const attempt = (escrowKey = escrow.privatePem) =>
    restore({ from: file, escrowKey, statePath: to, provider: providerAt(there) });
  await assert.rejects(attempt(makeEscrowKey().privatePem), coded("SEAL_ESCROW_KEY_WRONG"));
  for (const bytes of [0, 5, 60, whole.length >> 1, whole.length - 1]) {
    writeFileSync(file, whole);
    truncateSync(file, bytes);
    await assert.rejects(attempt(), coded("NODE_BACKUP_DAMAGED"), `cut at ${bytes}`);
  }
  for (const at of [0, 8, 300, whole.length >> 1, whole.length - 1]) {
    const altered = Buffer.from(whole);
    altered[at] = (altered[at] ?? 0) ^ 1;
    writeFileSync(file, altered);
    await assert.rejects(attempt(), coded("NODE_BACKUP_DAMAGED"), `byte ${at}`);
  }
  writeFileSync(file, Buffer.concat([whole, whole]));
  await assert.rejects(attempt(), coded("NODE_BACKUP_DAMAGED", /follows the end/));
  assert.equal(existsSync(to), false);
  assert.deepEqual(existsSync(there) ? readdirSync(there).filter((name) => name.startsWith(".")) : [], []);
});
