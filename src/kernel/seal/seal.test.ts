import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { openBytes, sealBytes } from "./bytes.ts";
import { fingerprintOf, makeEscrowKey, publicHalf } from "./escrow.ts";
import { keyFileProvider } from "./key-file.ts";
import { openKeyRing } from "./keyring.ts";
import { passphraseProvider } from "./passphrase.ts";

const base = mkdtempSync(join(tmpdir(), "seal-"));
after(() => rmSync(base, { recursive: true }));
let count = 0;
const place = (): { directory: string; path: string } => {
  const at = join(base, String(count++));
  return { directory: join(at, "state"), path: join(at, "elsewhere", "node.key") };
};
const coded = (code: string, message = /./) => ({ name: "Failure", code, message });
/** The cheapest parameters allowed: the tests are about the ring, not about the cost of guessing. */
const cheap = { memoryKiB: 7168, passes: 1 };
const words = (passphrase = "kelp holds in any storm") => passphraseProvider({ passphrase, ...cheap });
const both = ["keyring.json", "keyring.json.bak"];

test("a store gets the same key again after a restart, and every store its own", async () => {
  const { directory, path } = place();
  const ring = await openKeyRing({ directory, provider: keyFileProvider({ path }) });
  const [first, again, other] = await Promise.all([
    ring.dataKey("core-data"),
    ring.dataKey("core-data"),
    ring.dataKey("bus"),
  ]);
  assert.equal(first?.length, 32);
  assert.deepEqual(first, again);
  assert.notDeepEqual(first, other);
  const reopened = await openKeyRing({ directory, provider: keyFileProvider({ path }) });
  assert.deepEqual(await reopened.dataKey("core-data"), first);
  assert.deepEqual(reopened.stores(), ["bus", "core-data"]);
  for (const name of [...both.map((file) => join(directory, file)), path])
    assert.equal(statSync(name).mode & 0o777, 0o600, name);
});

test("no key is found in any file but the key file", async () => {
  const { directory, path } = place();
  const ring = await openKeyRing({ directory, provider: keyFileProvider({ path }) });
  const key = await ring.dataKey("core-data");
  const fileKey = readFileSync(path);
  for (const name of readdirSync(directory)) {
    const bytes = readFileSync(join(directory, name));
    for (const secret of [key, fileKey])
      for (const form of [secret, secret.toString("hex"), secret.toString("base64")])
        assert.ok(!bytes.includes(form), name);
  }
});

test("a wrong passphrase is refused and the right one in another keyboard's bytes is not", async () => {
  const { directory } = place();
  const key = await (await openKeyRing({ directory, provider: words("Größe des Tangs") })).dataKey("bus");
  await assert.rejects(openKeyRing({ directory, provider: words("Größe des tangs") }), coded("SEAL_PASSPHRASE_WRONG"));
  const ring = await openKeyRing({ directory, provider: words("Größe des Tangs".normalize("NFD")) });
  assert.deepEqual(await ring.dataKey("bus"), key);
});

test("a short passphrase seals nothing", async () => {
  const { directory } = place();
  await assert.rejects(
    openKeyRing({ directory, provider: words("kelp") }),
    coded("SEAL_PASSPHRASE_SHORT", /8 characters/),
  );
  assert.equal(existsSync(directory), false);
});

test("an altered key ring cannot ask for terabytes of memory or hours of work", async () => {
  const provider = words();
  const blob = Buffer.from(await provider.wrap(Buffer.alloc(32, 1)));
  const memory = Buffer.from(blob);
  memory.writeUInt32BE(0xffffffff, 1);
  const passes = Buffer.from(blob);
  passes[5] = 255;
  for (const altered of [memory, passes, blob.subarray(0, 40), Buffer.alloc(0)]) {
    await assert.rejects(async () => provider.unwrap(altered), coded("SEAL_KEYRING_DAMAGED"));
  }
  for (const wrong of [{ memoryKiB: 64 }, { memoryKiB: 2 ** 31 }, { passes: 0 }, { passes: 1.5 }]) {
    assert.throws(
      () => passphraseProvider({ passphrase: "kelp holds in any storm", ...wrong }),
      coded("SEAL_PARAMETERS_INVALID", /KiB/),
    );
  }
});

test("a key file that is gone is said to be gone, and none is made in its place", async () => {
  const { directory, path } = place();
  await openKeyRing({ directory, provider: keyFileProvider({ path }) });
  rmSync(path);
  await assert.rejects(
    openKeyRing({ directory, provider: keyFileProvider({ path }) }),
    coded("SEAL_KEY_FILE_MISSING", /cannot be read by anybody/),
  );
  assert.equal(existsSync(path), false);
});

test("another node's key file, and one of a wrong size, are told apart", async () => {
  const one = place();
  const two = place();
  await openKeyRing({ directory: one.directory, provider: keyFileProvider(one) });
  await openKeyRing({ directory: two.directory, provider: keyFileProvider(two) });
  await assert.rejects(
    openKeyRing({ directory: one.directory, provider: keyFileProvider(two) }),
    coded("SEAL_KEY_FILE_WRONG"),
  );
  truncateSync(one.path, 5);
  await assert.rejects(
    openKeyRing({ directory: one.directory, provider: keyFileProvider(one) }),
    coded("SEAL_KEY_FILE_DAMAGED", /5 bytes/),
  );
});

test("a key file that others may read, or that belongs to another user, is refused with the command that mends it", async () => {
  const { directory, path } = place();
  await openKeyRing({ directory, provider: keyFileProvider({ path }) });
  chmodSync(path, 0o640);
  await assert.rejects(
    openKeyRing({ directory, provider: keyFileProvider({ path }) }),
    coded("SEAL_KEY_FILE_PERMISSIONS", /0640.*chmod 600 /),
  );
  chmodSync(path, 0o600);
  if (process.geteuid?.() !== 0) return;
  chownSync(path, 65534, 65534);
  await assert.rejects(
    openKeyRing({ directory, provider: keyFileProvider({ path }) }),
    coded("SEAL_KEY_FILE_PERMISSIONS", /chown 0 /),
  );
});

test("a key file inside the state directory is refused, through a symbolic link too", async () => {
  const { directory } = place();
  mkdirSync(directory, { recursive: true });
  const outside = join(base, `link-${count++}`);
  symlinkSync(directory, outside);
  for (const path of [
    join(directory, "node.key"),
    join(directory, "a", "b", "node.key"),
    join(outside, "node.key"),
    join(directory, "..", "state", "k"),
  ]) {
    await assert.rejects(
      openKeyRing({ directory, provider: keyFileProvider({ path }) }),
      coded("SEAL_KEY_FILE_INSIDE_STATE"),
      path,
    );
  }
  const deeper = { directory: join(directory, "seal"), stateDirectory: directory };
  await assert.rejects(
    openKeyRing({ ...deeper, provider: keyFileProvider({ path: join(directory, "node.key") }) }),
    coded("SEAL_KEY_FILE_INSIDE_STATE"),
  );
  const ring = await openKeyRing({ directory, provider: words() });
  await assert.rejects(
    ring.changeProvider(keyFileProvider({ path: join(directory, "node.key") })),
    coded("SEAL_KEY_FILE_INSIDE_STATE"),
  );
  // A neighbour whose name only begins the same is outside.
  await openKeyRing({ directory: place().directory, provider: keyFileProvider({ path: `${directory}-key/node.key` }) });
});

test("a torn, zeroed or missing copy of the key ring mends itself from the other and says so", async () => {
  const { directory, path } = place();
  const ring = await openKeyRing({ directory, provider: keyFileProvider({ path }) });
  const key = await ring.dataKey("bus");
  for (const name of both) {
    const file = join(directory, name);
    const whole = readFileSync(file);
    const faults: Array<() => void> = [
      () => writeFileSync(file, Buffer.alloc(whole.length)),
      () => truncateSync(file, whole.length >> 1),
      () => truncateSync(file, 0),
      () => rmSync(file),
      () => writeFileSync(file, "null"),
      () => writeFileSync(file, whole.toString().replace('"id": 0', '"id": 1')),
    ];
    for (const fault of faults) {
      fault();
      const said: string[] = [];
      const opened = await openKeyRing({
        directory,
        provider: keyFileProvider({ path }),
        log: { warn: (_, message) => said.push(message) },
      });
      assert.deepEqual(await opened.dataKey("bus"), key);
      assert.match(said.join(), /written anew/);
      assert.deepEqual(readFileSync(file), whole);
    }
  }
});

test("the newer of two whole copies is believed: a cut between the two writes loses no key and brings none back", async () => {
  const { directory, path } = place();
  const provider = keyFileProvider({ path });
  const ring = await openKeyRing({ directory, provider });
  await ring.dataKey("old");
  copyFileSync(join(directory, "keyring.json"), join(base, "older"));
  await ring.dataKey("new");
  await ring.forget("old");
  copyFileSync(join(base, "older"), join(directory, "keyring.json.bak"));
  assert.deepEqual((await openKeyRing({ directory, provider })).stores(), ["new"]);
  assert.deepEqual(readFileSync(join(directory, "keyring.json")), readFileSync(join(directory, "keyring.json.bak")));
});

test("two damaged copies, and one of a newer version, are refused and left untouched", async () => {
  const { directory, path } = place();
  const provider = keyFileProvider({ path });
  await openKeyRing({ directory, provider });
  const files = both.map((name) => join(directory, name));
  const newer = JSON.stringify({ version: 7, other: true });
  writeFileSync(files[0] ?? "", newer);
  await assert.rejects(openKeyRing({ directory, provider }), coded("SEAL_KEYRING_NEWER", /version 7.*up to 2/));
  assert.equal(readFileSync(files[0] ?? "", "utf8"), newer);
  for (const file of files) writeFileSync(file, "");
  await assert.rejects(openKeyRing({ directory, provider }), coded("SEAL_KEYRING_DAMAGED"));
  assert.deepEqual(readdirSync(directory).sort(), both);
});

test("a forgotten store's key is in no file any more, and the name gets a new one", async () => {
  const { directory, path } = place();
  const ring = await openKeyRing({ directory, provider: keyFileProvider({ path }) });
  const key = await ring.dataKey("core-data");
  const { stores } = JSON.parse(readFileSync(join(directory, "keyring.json"), "utf8")) as {
    stores: Record<string, { key: string }[]>;
  };
  const wrapped = stores["core-data"]?.[0]?.key ?? "";
  assert.notEqual(wrapped, "");
  await ring.forget("core-data");
  await ring.forget("never-there");
  for (const name of both) assert.ok(!readFileSync(join(directory, name), "utf8").includes(wrapped));
  assert.notDeepEqual(await ring.dataKey("core-data"), key);
});

test("the provider can be changed without touching the data keys, and the old way opens nothing any more", async () => {
  const { directory, path } = place();
  const ring = await openKeyRing({ directory, provider: keyFileProvider({ path }) });
  const key = await ring.dataKey("bus");
  assert.match(ring.provider.promise, /protects nothing against theft of the disk/);
  await ring.changeProvider(words());
  assert.equal(ring.provider.name, "passphrase");
  await assert.rejects(
    openKeyRing({ directory, provider: keyFileProvider({ path }) }),
    coded("SEAL_PROVIDER_OTHER", /'passphrase'/),
  );
  assert.deepEqual(await (await openKeyRing({ directory, provider: words() })).dataKey("bus"), key);
});

test("a store's new key is given out from then on, and the old ones stay for what they encrypted", async () => {
  const { directory, path } = place();
  const provider = keyFileProvider({ path });
  const ring = await openKeyRing({ directory, provider });
  const first = await ring.dataKey("bus");
  await Promise.all([ring.rotate("bus"), ring.rotate("bus")]);
  const keys = await ring.dataKeys("bus");
  assert.deepEqual(
    keys.map(({ id }) => id),
    [0, 1, 2],
  );
  assert.deepEqual(keys[0]?.key, first);
  assert.deepEqual(await ring.dataKey("bus"), keys[2]?.key);
  assert.deepEqual(await (await openKeyRing({ directory, provider })).dataKeys("bus"), keys);
  assert.deepEqual(
    ring.status().stores.map(({ name, keys: n }) => [name, n]),
    [["bus", 3]],
  );
});

test("a new key-encryption key opens every data key as before, and the old file opens with nothing that is left", async () => {
  const { directory, path } = place();
  const provider = keyFileProvider({ path });
  const ring = await openKeyRing({ directory, provider });
  const keys = await Promise.all(["bus", "core-data"].map((store) => ring.dataKey(store)));
  const before = JSON.parse(readFileSync(join(directory, "keyring.json"), "utf8")) as { kek: string };
  await ring.rotateKek();
  const now = JSON.parse(readFileSync(join(directory, "keyring.json"), "utf8")) as { kek: string };
  assert.notEqual(now.kek, before.kek);
  for (const opened of [ring, await openKeyRing({ directory, provider })])
    assert.deepEqual(await Promise.all(["bus", "core-data"].map((store) => opened.dataKey(store))), keys);
});

test("the escrow key opens the ring when nothing else does, another one does not, and it follows a rotation", async () => {
  const { directory, path } = place();
  const ring = await openKeyRing({ directory, provider: keyFileProvider({ path }) });
  const key = await ring.dataKey("bus");
  const [escrow, stranger] = [makeEscrowKey(), makeEscrowKey()];
  const other = place();
  const reopen = (escrowKey: string) =>
    openKeyRing({ directory, provider: keyFileProvider({ path: other.path }), escrowKey });
  await assert.rejects(reopen(escrow.privatePem), coded("SEAL_ESCROW_MISSING"));
  await ring.escrow(escrow.publicKey);
  await ring.rotateKek();
  assert.deepEqual(publicHalf(escrow.privatePem), escrow.publicKey);
  assert.equal(ring.status().escrow, fingerprintOf(escrow.publicKey));
  await assert.rejects(reopen(stranger.privatePem), coded("SEAL_ESCROW_KEY_WRONG"));
  await assert.rejects(reopen("-----BEGIN"), coded("SEAL_ESCROW_KEY_INVALID"));
  assert.deepEqual(await (await reopen(escrow.privatePem)).dataKey("bus"), key);
  // Sealed anew: the old key file is of no use any more, and the new one is.
  await assert.rejects(openKeyRing({ directory, provider: keyFileProvider({ path }) }), coded("SEAL_KEY_FILE_WRONG"));
  const again = await openKeyRing({ directory, provider: keyFileProvider({ path: other.path }) });
  assert.deepEqual(await again.dataKey("bus"), key);
});

test("a ring of the version before, with one key a store, is read and written anew", async () => {
  const { directory, path } = place();
  const provider = keyFileProvider({ path });
  const key = await (await openKeyRing({ directory, provider })).dataKey("bus");
  const now = JSON.parse(readFileSync(join(directory, "keyring.json"), "utf8")) as {
    generation: number;
    kek: string;
    stores: { bus: { key: string }[] };
  };
  const body = {
    version: 1,
    generation: now.generation,
    provider: "key-file",
    kek: now.kek,
    stores: { bus: now.stores.bus[0]?.key },
  };
  const sum = createHash("sha256").update(JSON.stringify(body)).digest("hex");
  for (const name of both) writeFileSync(join(directory, name), JSON.stringify({ ...body, sum }));
  const ring = await openKeyRing({ directory, provider });
  assert.deepEqual(await ring.dataKey("bus"), key);
  await ring.rotate("bus");
  assert.equal((await (await openKeyRing({ directory, provider })).dataKeys("bus")).length, 2);
});

test("a ring that was zeroed, and names that are no store's, are refused", async () => {
  const { directory, path } = place();
  const ring = await openKeyRing({ directory, provider: keyFileProvider({ path }) });
  for (const name of ["", "../etc", "__proto__", "Core Data", "a".repeat(129), "a\n"])
    await assert.rejects(ring.dataKey(name), coded("SEAL_STORE_NAME_INVALID"));
  assert.equal((await ring.dataKey("constructor")).length, 32);
  ring.zero();
  await assert.rejects(ring.dataKey("bus"), coded("SEAL_KEYRING_ZEROED"));
});

test("a directory that cannot be written keeps the ring as it was", async (t) => {
  const { directory, path } = place();
  const provider = keyFileProvider({ path });
  const ring = await openKeyRing({ directory, provider });
  // A directory in the way of the file fails for root too, as permissions would not.
  mkdirSync(join(directory, `keyring.json.new-${process.pid}`, "in-the-way"), { recursive: true });
  t.after(() => rmSync(directory, { recursive: true }));
  await assert.rejects(ring.dataKey("bus"), coded("SEAL_KEYRING_UNWRITABLE", /keyring\.json/));
  assert.deepEqual(ring.stores(), []);
});

test("sealed bytes open only with the same key and purpose, and no altered bit passes", () => {
  const key = Buffer.alloc(32, 3);
  const sealed = sealBytes(key, Buffer.from("secret"), "token of bus");
  assert.equal(openBytes(key, sealed, "token of bus").toString(), "secret");
  assert.notDeepEqual(sealBytes(key, Buffer.from("secret"), "token of bus"), sealed);
  assert.throws(() => openBytes(key, sealed, "token of core-data"), coded("SEAL_BYTES_REFUSED"));
  assert.throws(() => openBytes(Buffer.alloc(32, 4), sealed, "token of bus"), coded("SEAL_BYTES_REFUSED"));
  for (let at = 0; at < sealed.length; at++) {
    const altered = Buffer.from(sealed);
    altered[at] = (altered[at] ?? 0) ^ 1;
    assert.throws(() => openBytes(key, altered, "token of bus"), coded("SEAL_BYTES_REFUSED"), `byte ${at}`);
    assert.throws(() => openBytes(key, sealed.subarray(0, at), "token of bus"), coded("SEAL_BYTES_REFUSED"));
  }
  assert.equal(openBytes(key, sealBytes(key, Buffer.alloc(0), "x"), "x").length, 0);
});
