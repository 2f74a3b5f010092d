/** The link: cut, flapping, slow, half-open, and clouds that misbehave. Whatever it does, what was acknowledged arrives once and in order. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { seeded } from "../src/devices/virtual/series.ts";
import type { Manner } from "./houses/rogue.ts";
import { type HouseSettings, ROUNDS, SEED, TormentedHouse } from "./houses/tormented.ts";
import { type After, until } from "./houses/uplink.ts";

/** Each story is told once at home, and so often in CI and in the soak. */
const TIMES = Math.max(1, Math.round(ROUNDS / 25));
const TIMEOUT_MS = 180_000 + TIMES * 180_000;
/** A request without an answer is given up after this, and a little. */
const SILENCE_MS_MAX = 45_000;

/** Tells a story of a house of its own as often as is wanted, and holds the house to account after each time. */
function story(
  name: string,
  tell: (house: TormentedHouse, random: () => number) => Promise<void>,
  settings?: HouseSettings,
) {
  return async (t: After): Promise<void> => {
    const random = seeded(SEED + name.length);
    const house = await TormentedHouse.open(t, settings);
    for (let n = 0; n < TIMES; n++) {
      await house.written(100);
      await tell(house, random);
      assert.ok((await house.account()) > 100);
    }
  };
}

const isOffline = async (house: TormentedHouse): Promise<boolean> =>
  (await house.node.ask("destination")).state === "offline";

const STORIES: Readonly<Record<string, (house: TormentedHouse, random: () => number) => Promise<void>>> = {
  async "cut and mended, silent and deaf, again and again"({ wire }, random) {
    const endMs = performance.now() + 4_000;
    while (performance.now() < endMs) {
      wire.mode = random() < 0.5 ? "cut" : random() < 0.5 ? "silent" : { deafAfter: random() * 6_000 };
      wire.drop();
      await sleep(20 + random() * 300);
      wire.mode = "pass";
      wire.drop();
      await sleep(20 + random() * 300);
    }
  },
  async "a byte a second, then two thousand"(house) {
    house.wire.mode = { bytesPerS: 1 };
    await sleep(4_000);
    house.wire.mode = { bytesPerS: 2_000 };
    await sleep(4_000);
    house.wire.mode = "pass";
  },
  async "connections that are half open are given up by themselves"({ wire }) {
    const { connections } = wire;
    wire.forget();
    await until("it connects anew", () => wire.connections > connections, SILENCE_MS_MAX);
  },
  async "a cloud that accepts and never answers is given up in time"(house) {
    await house.goRogue("silence");
    await until("it is given up", () => isOffline(house), SILENCE_MS_MAX);
    await house.assertMemory();
    await house.goRogue(undefined);
  },
  async "an answer that never ends its head is given up in time"(house) {
    await house.goRogue("trickle");
    await until("it is given up", () => isOffline(house), SILENCE_MS_MAX);
    await house.goRogue(undefined);
  },
  async "answers of 500, noise, nonsense, half of one and one without end"(house) {
    for (const manner of ["500", "noise", "nonsense", "half", "endless"] satisfies Manner[]) {
      await house.goRogue(manner);
      await until(`it has heard '${manner}'`, async () => (await house.cloud.ask("asked")).length >= 2, SILENCE_MS_MAX);
      await house.assertMemory();
      await house.goRogue(undefined);
      await until("it has the cloud again", async () => !(await isOffline(house)), SILENCE_MS_MAX);
    }
  },
  async "a cloud that answers 429 is left alone for as long as it says"(house) {
    await house.goRogue("429");
    await until("it is asked again", async () => (await house.cloud.ask("asked")).length >= 3, SILENCE_MS_MAX);
    const asked = await house.cloud.ask("asked");
    // Both lanes may have been under way; then it waits.
    const waits = asked.slice(1).map((atMs, i) => atMs - asked[i]);
    assert.ok(
      waits.filter((ms) => ms < 2_000).length <= 1,
      `asked for 2 s each time: ${waits.map(Math.round).join()} ms`,
    );
    await house.goRogue(undefined);
  },
  async "a cloud that acknowledges and dies"(house, random) {
    for (let n = 0; n < 4; n++) {
      await house.cloud.ask("dieAfter", 1 + Math.floor(random() * 20));
      await house.cloud.died();
      await house.startCloud();
    }
  },
};

suite("the link", { concurrency: 4, timeout: TIMEOUT_MS }, () => {
  for (const [name, tell] of Object.entries(STORIES)) test(name, { timeout: TIMEOUT_MS }, story(name, tell));
});
