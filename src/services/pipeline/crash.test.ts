import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { seeded } from "../../devices/virtual/series.ts";
import { ROUNDS, SEED, TormentedHouse } from "../../../test/houses/tormented.ts";

/** A round takes under 3 s on a machine that does nothing else. */
const TIMEOUT_MS = 120_000 + ROUNDS * 15_000;

test(
  `kill -9 of node and cloud at random moments, ${ROUNDS} times over: the cloud has every acknowledged event, once and in order`,
  { timeout: TIMEOUT_MS },
  async (t) => {
    const house = await TormentedHouse.open(t, { node: { pauseMs: 1 } });
    const random = seeded(SEED + 4_711);
    for (let round = 1; round <= ROUNDS; round++) {
      await house.node.ask("write", true);
      await house.written(1);
      await sleep(random() * 400);
      if (random() < 0.5) {
        await house.cloud.kill();
        await sleep(random() * 200);
        await house.startCloud();
        await sleep(random() * 300);
      }
      await house.killNode();
      await house.startNode();
    }
    assert.ok((await house.account()) >= ROUNDS);
  },
);
