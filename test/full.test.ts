/** A full disk, and a disk that has room again: what was acknowledged before, meanwhile and after arrives; and what has arrived gives its space back. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ROUNDS, TormentedHouse, until } from "./houses/tormented.ts";
import type { After } from "./houses/uplink.ts";
import { need } from "./need.ts";

const TIMES = Math.max(1, Math.round(ROUNDS / 100));
const TIMEOUT_MS = 120_000 + TIMES * 120_000;
const DISK_BYTES = 24 * 2 ** 20;
const FULL_MS_MAX = 150_000;
/** Eight random readings an event, so that a disk fills soon. */
const WRITER = { pad: 8, pauseMs: 2 };

function smallDisk(t: After): string {
  const mount = mkdtempSync(join(tmpdir(), "holdfast-full-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_BYTES}`, "tmpfs", mount]);
  t.after(() => {
    execFileSync("umount", ["-l", mount]);
    rmSync(mount, { recursive: true });
  });
  return mount;
}

/** Fills what is left of a disk; answers how to free it again. */
function fill(mount: string): () => void {
  const path = join(mount, "filler");
  let bytes = DISK_BYTES;
  // As much as fits, to the last page.
  for (let size = bytes; size >= 4096; size >>= 1) {
    try {
      writeFileSync(path, Buffer.alloc(size), { flag: "a" });
    } catch (error) {
      assert.equal((error as { code?: string }).code, "ENOSPC");
    }
    bytes -= size;
  }
  return () => rmSync(path);
}

const refusedMore = async (house: TormentedHouse): Promise<void> => {
  const { refused } = await house.node.ask("status");
  await until("the bus refuses", async () => (await house.node.ask("status")).refused > refused + 3, FULL_MS_MAX);
};

test(
  "a disk that others fill: appends are refused, and go on when it has room again",
  { skip: need("root"), timeout: TIMEOUT_MS },
  async (t) => {
    const mount = smallDisk(t);
    const house = await TormentedHouse.open(t, { nodeDirectory: mount, node: WRITER });
    for (let n = 0; n < TIMES; n++) {
      await house.written(100);
      const free = fill(mount);
      await refusedMore(house);
      // Also a start on the full disk.
      await house.killNode();
      free();
      await house.startNode();
      await house.node.ask("write", true);
      const freeAgain = fill(mount);
      await refusedMore(house);
      freeAgain();
      await house.written(100);
      await house.account();
    }
  },
);

test(
  "a disk that an outage fills: it drains and has room again, with nobody's help",
  { skip: need("root"), timeout: TIMEOUT_MS },
  async (t) => {
    const mount = smallDisk(t);
    const config = { pipeline: { outboxBytesMax: 2 ** 30 } };
    const house = await TormentedHouse.open(t, { nodeDirectory: mount, node: { ...WRITER, config } });
    for (let n = 0; n < TIMES; n++) {
      await house.written(100);
      house.wire.mode = "cut";
      house.wire.drop();
      await refusedMore(house);
      house.wire.mode = "pass";
      await house.account();
      await house.written(100);
      await house.account();
      await until("the disk has room again", () => house.outboxBytes() < DISK_BYTES / 8, FULL_MS_MAX);
    }
  },
);
