import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { need } from "../../../test/need.ts";
import { checkConfig } from "../../kernel/config.ts";
import { startTpm } from "../../kernel/seal/fixture.ts";
import { NodeConfig } from "../config.ts";
import { chosen, openKeys } from "./open.ts";

const base = mkdtempSync(join(tmpdir(), "keys-open-"));
after(() => rmSync(base, { recursive: true }));
let count = 0;
const place = (): string => {
  const at = join(base, String(count++));
  mkdirSync(at);
  return at;
};
const config = (given: object): NodeConfig => checkConfig(NodeConfig, given, "node") as NodeConfig;
const log = { warn: () => assert.fail("nothing is to be warned of") };

test("the first start chooses a passphrase where one is given, else the named key file, else the TPM, else a key file", () => {
  const device = join(place(), "tpm");
  writeFileSync(device, "");
  const withTpm = config({ keys: { tpm: { device } } });
  const without = config({ keys: { tpm: { device: `${device}-none` } } });
  const passphrase = { HOLDFAST_PASSPHRASE_FILE: join(base, "passphrase") };
  assert.equal(chosen(withTpm, passphrase, undefined), "passphrase");
  assert.equal(chosen(withTpm, {}, undefined), "tpm");
  assert.equal(chosen({ ...withTpm, keyFile: "/media/key/node.key" }, {}, undefined), "key-file");
  assert.equal(chosen(without, {}, undefined), "key-file");
  assert.equal(chosen(without, {}, "pkcs11"), "pkcs11");
  assert.equal(chosen(config({ keys: { provider: "passphrase" } }), {}, "tpm"), "passphrase");
  const directory = place();
  assert.equal(chosen(without, { CREDENTIALS_DIRECTORY: directory }, undefined), "key-file");
  writeFileSync(join(directory, "holdfast-passphrase"), "kelp holds in any storm");
  assert.equal(chosen(without, { CREDENTIALS_DIRECTORY: directory }, undefined), "passphrase");
});

test("a passphrase comes through a pipe, which gives it once", async () => {
  const at = place();
  const pipe = join(at, "pipe");
  execFileSync("mkfifo", [pipe]);
  const options = { statePath: join(at, "state"), node: config({}), env: { HOLDFAST_PASSPHRASE_FILE: pipe }, log };
  /** Another process writes it once, and waits for who reads. */
  const give = (words: string) => spawn("sh", ["-c", 'echo "$0" > "$1"', words, pipe]);
  give("kelp holds in any storm");
  assert.equal((await openKeys(options)).provider.name, "passphrase");
  give("sand holds in no storm");
  await assert.rejects(openKeys(options), { code: "SEAL_PASSPHRASE_WRONG" });
});

test("a node whose keys a TPM seals opens them with it alone", { skip: need("swtpm") }, async () => {
  const at = place();
  const tpm = await startTpm(join(at, "tpm"));
  try {
    const options = {
      statePath: join(at, "state"),
      node: config({ keys: { tpm: { device: tpm.path } } }),
      env: {},
      log,
    };
    const ring = await openKeys(options);
    assert.equal(ring.provider.name, "tpm");
    const key = await ring.dataKey("bus");
    assert.deepEqual(await (await openKeys(options)).dataKey("bus"), key);
    await tpm.stop();
    await assert.rejects(openKeys(options), { code: "SEAL_TPM_MISSING" });
  } finally {
    await tpm.stop();
  }
});
