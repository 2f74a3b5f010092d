/**
 * Theft: somebody carries the disk away. A node keeps its state on a file system in a loop file; it is killed at a random point
 * of its work, again and again, and the raw image is searched, blocks that were deleted included, for all that it was ever told.
 */
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import {
  chmodSync,
  closeSync,
  cpSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
} from "node:fs";
import { appendFileSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { keyFileProvider } from "../src/kernel/seal/key-file.ts";
import { openKeyRing } from "../src/kernel/seal/keyring.ts";
import { gatewayDoor } from "./houses/ask.ts";
import { seeded } from "./houses/seeded.ts";
import { Whole } from "./houses/whole.ts";
import { NEEDS, skipFor } from "./need.ts";

const ROUNDS = Number(process.env["HOLDFAST_THEFT_ROUNDS"] ?? 3);
const random = seeded(Number(process.env["HOLDFAST_SEED"] ?? 20_261_124));
const IMAGE_BYTES = 384 * 1024 * 1024;
const EVENTS = 8;
const READINGS = 60;
const SLICE_BYTES = 8 * 1024 * 1024;
const skip = skipFor(NEEDS.loop);

/** Begins every text that must not be found: hardly to be met by chance. */
const CANARY = `canary${randomBytes(6).toString("hex")}`;
const house = new Whole({ args: ["--compact"], state: "disk/state" });
const disk = join(house.directory, "disk");
const image = join(house.directory, "disk.img");

before(() => {
  if (skip === false) mount(image, disk);
});
after(async () => {
  await house.stop();
  if (skip === false) execFileSync("umount", ["-l", disk]);
  await house.remove();
});

/** Makes a file system in a file, and mounts it. */
function mount(file: string, at: string): void {
  writeFileSync(file, "");
  truncateSync(file, IMAGE_BYTES);
  execFileSync("mkfs.ext4", ["-q", "-F", file]);
  mkdirSync(at, { recursive: true });
  execFileSync("mount", ["-o", "loop", file, at]);
  chmodSync(at, 0o711);
}

/** Counts how often the raw image has any of these byte strings. */
function countIn(file: string, needles: readonly Buffer[]): Map<string, number> {
  const found = new Map<string, number>();
  const longest = Math.max(...needles.map((needle) => needle.length));
  const fd = openSync(file, "r");
  const slice = Buffer.alloc(SLICE_BYTES + longest);
  try {
    for (let at = 0; at < IMAGE_BYTES; at += SLICE_BYTES) {
      const part = slice.subarray(0, readSync(fd, slice, 0, slice.length, at));
      for (const needle of needles) {
        for (let hit = part.indexOf(needle); hit >= 0 && hit < SLICE_BYTES; hit = part.indexOf(needle, hit + 1)) {
          const name = needle.toString("latin1");
          found.set(name, (found.get(name) ?? 0) + 1);
        }
      }
    }
  } finally {
    closeSync(fd);
  }
  return found;
}

/** The ways in which a text may lie on a disk: as it is, in UTF-16, in base64 wherever it begins, in hex. */
const formsOf = (text: string): Buffer[] => [
  Buffer.from(text),
  Buffer.from(text, "utf16le"),
  ...[0, 1, 2].map((shift) => {
    const coded = Buffer.from(`${"-".repeat(shift)}${text}`).toString("base64");
    // The ends depend on the neighbours.
    return Buffer.from(coded.slice(shift === 0 ? 0 : 4, -4));
  }),
  Buffer.from(Buffer.from(text).toString("hex")),
];

/** An event with texts that must not be found: the device's name, values, tags. */
function eventOf(n: number) {
  const deviceName = `${CANARY}-device-${n}`;
  const names = { deviceName, profileName: "p" };
  const origin = BigInt(Date.now()) * 1_000_000n;
  const readings = Array.from({ length: READINGS }, (_, i) => ({
    id: randomUUID(),
    origin,
    ...names,
    resourceName: `r${i}`,
    valueType: "String",
    value: `${CANARY}-value-${n}-${i}`,
  }));
  return { deviceName, event: { apiVersion: "v3", id: randomUUID(), ...names, sourceName: "s", origin, readings } };
}

let events = 0;

/** Starts the node, tells it what must not be found, and kills all of it at a random point of that. */
async function round(secrets: Set<string>): Promise<void> {
  await house.start();
  const pids = [...(await house.pids()).values(), house.pid];
  const ask = await gatewayDoor(house);
  secrets.add((await house.text("token", "--role", "viewer")).trim().split(".")[2]);
  const killAfter = random(EVENTS);
  let told = 0;
  const telling = (async () => {
    for (let n = 0; n < EVENTS; n++) {
      const { deviceName, event } = eventOf(events++);
      await ask("POST", `/core-data/api/v3/event/device-x/p/${deviceName}/s`, { body: { apiVersion: "v3", event } });
      // Into the logs and the audit trail: what a stranger asks for, and what an operator does.
      await ask("GET", `/${CANARY}-path-${n}`);
      await ask("DELETE", `/core-metadata/api/v3/device/name/${CANARY}-gone-${n}`);
      told++;
    }
  })();
  telling.catch(() => undefined);
  await house.until(() => told >= killAfter, "events to be told");
  await sleep(random(40));
  for (const pid of pids) process.kill(pid, "SIGKILL");
  await telling.catch(() => undefined);
  await house.ended();
}

test(
  `the disk of a node that was killed at ${ROUNDS} random points tells nothing of what it was told`,
  { skip },
  async () => {
    const secrets = new Set<string>();
    for (let n = 0; n < ROUNDS; n++) {
      await round(secrets);
      // What is in the kernel's memory gets to the disk, as it does a moment after.
      execFileSync("sync", ["-f", disk]);
      const keyFile = readFileSync(house.keyFile);
      const needles = [
        ...formsOf(CANARY),
        ...[...secrets].map((secret) => Buffer.from(secret)),
        Buffer.from("PRIVATE KEY-----"),
        keyFile.subarray(0, 24),
        keyFile.subarray(-24),
      ];
      assert.deepEqual([...countIn(image, needles)], [], `round ${n + 1}`);
    }
    assert.ok(events >= ROUNDS, "events were told");
  },
);

test("the same written in plaintext, and deleted again, is found over a thousand times", { skip }, () => {
  const [file, at] = [join(house.directory, "plain.img"), join(house.directory, "plain")];
  mount(file, at);
  try {
    const database = new DatabaseSync(join(at, "plain.db"));
    database.exec("CREATE TABLE event (device TEXT, body TEXT)");
    const insert = database.prepare("INSERT INTO event VALUES (?, ?)");
    for (let n = 0; n < EVENTS * 3; n++) {
      const { deviceName, event } = eventOf(n);
      const body = JSON.stringify(event, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value));
      insert.run(deviceName, body);
      appendFileSync(join(at, "journal.log"), `${body}\n`);
    }
    database.close();
    execFileSync("sync", ["-f", at]);
    unlinkSync(join(at, "journal.log"));
    unlinkSync(join(at, "plain.db"));
    execFileSync("sync", ["-f", at]);
    const found = countIn(file, formsOf(CANARY)).get(CANARY) ?? 0;
    assert.ok(found > 1_000, `${found} found`);
  } finally {
    execFileSync("umount", ["-l", at]);
    rmSync(file);
  }
});

test(
  "disk and software without the key file open nothing, nor with the key file of another node",
  { skip },
  async () => {
    const copy = join(house.directory, "stolen");
    cpSync(house.state, copy, { recursive: true });
    const config = join(house.directory, "thief.yaml");
    writeFileSync(config, `node: { keyFile: ${join(house.directory, "nowhere", "node.key")} }\n`);
    const command = join(import.meta.dirname, "../bin/holdfast");
    const started = promisify(execFile)(command, ["start", "--compact", "--state", copy, "--config", config]);
    await assert.rejects(started, (failure: Error & { stderr: string; code: number }) => {
      assert.equal(failure.code, 78);
      return failure.stderr.includes("SEAL_KEY_FILE_MISSING");
    });
    const other = join(house.directory, "other.key");
    writeFileSync(other, randomBytes(32), { mode: 0o600 });
    const opened = openKeyRing({
      directory: join(copy, "node"),
      stateDirectory: copy,
      provider: keyFileProvider({ path: other }),
    });
    await assert.rejects(opened, { code: "SEAL_KEY_FILE_WRONG" });
  },
);
