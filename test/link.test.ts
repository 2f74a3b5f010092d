/** The link: cut, flapping, slow, half-open, and clouds that misbehave. Whatever it does, what was acknowledged arrives once and in order. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LossyNetwork } from "./houses/lossy.ts";
import { need } from "./need.ts";
import { seeded } from "../src/devices/virtual/series.ts";
import type { Manner } from "./houses/rogue.ts";
import { DRAIN_MS_MAX, type HouseSettings, ROUNDS, SEED, TormentedHouse, until } from "./houses/tormented.ts";
import type { After } from "./houses/uplink.ts";

/** Each story is told once, and more often in the soak. */
const TIMES = Math.max(1, Math.round(ROUNDS / 100));
const TIMEOUT_MS = 180_000 + TIMES * 180_000;
/** Most of a story is waiting. */
const STORIES_AT_ONCE = 4;
/** What waits for a request to be given up is told where there is time. */
const LONG = /half open|never answers|answers 500/;
const LONG_ROUNDS_MIN = 10;
/** A request without an answer is given up after this, and a little. */
const SILENCE_MS_MAX = 90_000;

type Tell = (house: TormentedHouse, random: () => number) => Promise<void>;

/** Tells a story of a house of its own as often as is wanted, and holds the house to account after each time. */
async function told(t: After, tell: Tell, settings: HouseSettings = {}): Promise<void> {
  const random = seeded(SEED);
  const house = await TormentedHouse.open(t, settings);
  for (let n = 0; n < TIMES; n++) {
    await house.written(100);
    await tell(house, random);
    assert.ok((await house.account()) >= 100);
  }
}

/** Events that the cloud has acknowledged to the node. */
const acknowledged = async ({ node }: TormentedHouse): Promise<number> =>
  (await node.ask("destination")).acknowledged.events;

/** Waits until a request was given up because nobody answered it. */
const givenUp = (house: TormentedHouse) =>
  until(
    "a request is given up",
    async () => /did not answer|not waited for/.test((await house.node.ask("destination")).reason ?? ""),
    SILENCE_MS_MAX,
  );

const STORIES: Readonly<Record<string, Tell>> = {
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
  async "a byte a second, and then 500: a small load gets through that"(house) {
    await house.node.ask("write", false);
    house.wire.drop();
    house.wire.mode = { bytesPerS: 1 };
    await sleep(3_000);
    await house.node.ask("write", true);
    await house.written(1);
    await house.node.ask("write", false);
    house.wire.mode = { bytesPerS: 500 };
    house.wire.drop();
    await until("all is through", async () => (await house.node.ask("status")).behind === 0, DRAIN_MS_MAX);
    house.wire.mode = "pass";
  },
  async "connections that are half open are given up, and new ones made"({ wire }) {
    const { connections } = wire;
    wire.forget();
    await until("it connects anew", () => wire.connections > connections, SILENCE_MS_MAX);
  },
  async "a cloud that accepts and never answers is given up"(house) {
    await house.goRogue("silence");
    await givenUp(house);
    await house.assertMemory();
    await house.goRogue(undefined);
  },
  async "a cloud that answers 500, noise, nonsense, half an answer, one without end, and one that never begins"(house) {
    for (const manner of ["500", "noise", "nonsense", "half", "endless", "trickle"] satisfies Manner[]) {
      await house.goRogue(manner);
      await until(`it meets '${manner}'`, async () => (await house.cloud.ask("asked")).length > 0, SILENCE_MS_MAX);
      await sleep(500);
      await house.assertMemory();
      await house.goRogue(undefined);
      // One after the other, so that the node does not wait for longer each time.
      const before = await acknowledged(house);
      await until("it has the cloud again", async () => (await acknowledged(house)) > before, DRAIN_MS_MAX);
    }
  },
  async "a cloud that answers 429 is left alone for as long as it says, also where a proxy says it"(house) {
    await house.goRogue("429");
    await until("it is asked again", async () => (await house.cloud.ask("asked")).length >= 3, SILENCE_MS_MAX);
    const asked = await house.cloud.ask("asked");
    const waits = asked.slice(1).map((atMs, i) => Math.round(atMs - asked[i]));
    assert.ok(Math.min(...waits) >= 2_000, `two seconds are asked for each time: ${waits.join()} ms`);
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

suite("the link", { concurrency: STORIES_AT_ONCE, timeout: TIMEOUT_MS }, () => {
  for (const [name, tell] of Object.entries(STORIES)) {
    const skip =
      LONG.test(name) &&
      ROUNDS < LONG_ROUNDS_MIN &&
      `takes a minute of waiting: told from --rounds ${LONG_ROUNDS_MIN} on`;
    test(name, { skip, timeout: TIMEOUT_MS }, (t) => told(t, tell));
  }
  test("three of ten packets are lost", { skip: need("netns"), timeout: TIMEOUT_MS }, async (t) => {
    const network = new LossyNetwork(t);
    const lossy: Tell = async (house) => {
      network.lose(30);
      const before = await acknowledged(house);
      await house.written(100);
      await until("something arrives", async () => (await acknowledged(house)) > before + 100, DRAIN_MS_MAX);
      network.lose(0);
    };
    await told(t, lossy, { within: network.within });
  });
});
