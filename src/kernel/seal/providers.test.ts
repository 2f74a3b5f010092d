import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { need } from "../../../test/need.ts";
import { loadKoffi } from "../../node/confine/libc.ts";
import { makeTokens, SOFT_HSM, SOFT_PIN, type SoftTpm, startTpm } from "./fixture.ts";
import { keyFileProvider } from "./key-file.ts";
import { openKeyRing } from "./keyring.ts";
import { passphraseProvider } from "./passphrase.ts";
import { pkcs11Provider } from "./pkcs11/provider.ts";
import type { KeyProvider } from "./provider.ts";
import { tpmProvider } from "./tpm/provider.ts";

const base = mkdtempSync(join(tmpdir(), "providers-"));
const skips = { tpm: need("swtpm"), pkcs11: need("softhsm"), passphrase: false, "key-file": false } as const;
const coded = (code: string, message = /./) => ({ name: "Failure", code, message });
let tpm: SoftTpm | undefined;
let otherTpm: SoftTpm | undefined;
let count = 0;

before(async () => {
  if (skips.tpm === false)
    [tpm, otherTpm] = await Promise.all(["one", "other"].map((name) => startTpm(join(base, name))));
  if (skips.pkcs11 === false) makeTokens(join(base, "hsm"), ["node", "other"]);
});
after(async () => {
  await Promise.all([tpm?.stop(), otherTpm?.stop()]);
  rmSync(base, { recursive: true, force: true });
});

const token = (options: { tokenLabel?: string; keyLabel?: string; pin?: string } = {}): KeyProvider =>
  pkcs11Provider({
    koffi: loadKoffi,
    module: SOFT_HSM,
    tokenLabel: "node",
    keyLabel: "holdfast",
    ...options,
    pin: async () => Buffer.from(options.pin ?? SOFT_PIN),
  });
/** A provider, and one like it that was not the one who sealed. */
const makers: { [name in KeyProvider["name"]]: () => { own: KeyProvider; stranger: KeyProvider; refusal: string } } = {
  tpm: () => ({
    own: tpmProvider({ path: tpm?.path ?? "" }),
    stranger: tpmProvider({ path: otherTpm?.path ?? "" }),
    refusal: "SEAL_TPM_OTHER",
  }),
  pkcs11: () => ({ own: token(), stranger: token({ tokenLabel: "other" }), refusal: "SEAL_PKCS11_KEY_MISSING" }),
  passphrase: () => ({
    own: passphraseProvider({ passphrase: "kelp holds in any storm", memoryKiB: 7168, passes: 1 }),
    stranger: passphraseProvider({ passphrase: "sand holds in no storm", memoryKiB: 7168, passes: 1 }),
    refusal: "SEAL_PASSPHRASE_WRONG",
  }),
  "key-file": () => {
    const make = (): KeyProvider => keyFileProvider({ path: join(base, `key-${count++}`, "node.key") });
    return { own: make(), stranger: make(), refusal: "SEAL_KEY_FILE_MISSING" };
  },
};

for (const [name, make] of Object.entries(makers) as [KeyProvider["name"], (typeof makers)["tpm"]][]) {
  const skip = skips[name];

  test(
    `${name}: what was wrapped comes back, each time wrapped differently, and not in the blob`,
    { skip },
    async () => {
      const { own } = make();
      const key = randomBytes(32);
      const [blob, again] = [await own.wrap(key), await own.wrap(key)];
      assert.equal(own.name, name);
      assert.notDeepEqual(blob, again);
      for (const text of [key, key.toString("hex"), key.toString("base64")])
        assert.ok(!Buffer.from(blob).includes(text), "the key is in its wrapping");
      assert.deepEqual(Buffer.from(await own.unwrap(blob)), key);
      assert.deepEqual(Buffer.from(await own.unwrap(again)), key);
    },
  );

  test(`${name}: another of its kind opens nothing`, { skip }, async () => {
    const { own, stranger, refusal } = make();
    const blob = await own.wrap(randomBytes(32));
    await assert.rejects(stranger.unwrap(blob), coded(refusal));
  });

  test(`${name}: no altered, cut or foreign blob gives a key`, { skip }, async () => {
    const { own } = make();
    const key = randomBytes(32);
    const blob = Buffer.from(await own.wrap(key));
    for (const at of [0, 1, blob.length >> 1, blob.length - 3, blob.length - 1]) {
      const altered = Buffer.from(blob);
      altered[at] = (altered[at] ?? 0) ^ 1;
      await assert.rejects(async () => own.unwrap(altered), { name: "Failure" }, `byte ${at} of ${blob.length}`);
    }
    for (const foreign of [Buffer.alloc(0), Buffer.alloc(200, 7), blob.subarray(0, 30)])
      await assert.rejects(async () => own.unwrap(foreign), { name: "Failure" });
  });

  test(`${name}: a key ring opens again with the same data keys, and moves on to a key file`, { skip }, async () => {
    const { own } = make();
    const directory = join(base, `ring-${count++}`);
    const key = await (await openKeyRing({ directory, provider: own })).dataKey("bus");
    const ring = await openKeyRing({ directory, provider: own });
    assert.equal(ring.provider.name, name);
    assert.deepEqual(await ring.dataKey("bus"), key);
    const next = keyFileProvider({ path: join(base, `next-${count++}`, "node.key") });
    await ring.changeProvider(next);
    assert.deepEqual(await (await openKeyRing({ directory, provider: next })).dataKey("bus"), key);
  });
}

test("a TPM whose PCR has changed opens nothing, and says which one", { skip: skips.tpm }, async () => {
  const path = tpm!.path;
  const key = randomBytes(32);
  const [bound, free] = [tpmProvider({ path, pcrs: [7, 14] }), tpmProvider({ path, pcrs: [] })];
  const [blob, any] = [await bound.wrap(key), await free.wrap(key)];
  assert.deepEqual(Buffer.from(await bound.unwrap(blob)), key);
  tpm!.extend(14);
  await assert.rejects(bound.unwrap(blob), coded("SEAL_TPM_PCR_CHANGED", /PCR 14\)/));
  assert.deepEqual(Buffer.from(await free.unwrap(any)), key);
  // Sealed anew it opens; and as before once the machine starts as before.
  assert.deepEqual(Buffer.from(await bound.unwrap(await bound.wrap(key))), key);
  await tpm!.restart();
  assert.deepEqual(Buffer.from(await bound.unwrap(blob)), key);
});

test("sealing and unsealing leave nothing behind in the TPM", { skip: skips.tpm }, async () => {
  const { own } = makers.tpm();
  const blob = await own.wrap(randomBytes(32));
  // A TPM holds three objects and a handful of sessions: what was forgotten would fill it up.
  for (let i = 0; i < 12; i++) await own.unwrap(blob);
});

test("a TPM that is not there is said to be not there", async () => {
  await assert.rejects(
    tpmProvider({ path: join(base, "nothing") }).wrap(Buffer.alloc(32)),
    coded("SEAL_TPM_MISSING", /ENOENT/),
  );
});

test("a wrong PIN, a missing token and a file that is no module are told apart", { skip: skips.pkcs11 }, async () => {
  const key = randomBytes(32);
  await assert.rejects(token({ pin: "000000" }).wrap(key), coded("SEAL_PKCS11_PIN_REFUSED"));
  await assert.rejects(token({ tokenLabel: "gone" }).wrap(key), coded("SEAL_PKCS11_TOKEN_MISSING", /'node'/));
  const none = pkcs11Provider({
    koffi: loadKoffi,
    module: "/etc/passwd",
    tokenLabel: "node",
    keyLabel: "holdfast",
    pin: async () => Buffer.from(SOFT_PIN),
  });
  await assert.rejects(none.wrap(key), coded("SEAL_PKCS11_UNUSABLE"));
});

test("a key of the same name on another token opens nothing", { skip: skips.pkcs11 }, async () => {
  const blob = await token({ keyLabel: "twin" }).wrap(randomBytes(32));
  await token({ tokenLabel: "other", keyLabel: "twin" }).wrap(randomBytes(32));
  await assert.rejects(token({ tokenLabel: "other", keyLabel: "twin" }).unwrap(blob), coded("SEAL_PKCS11_KEY_WRONG"));
});
