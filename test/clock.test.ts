/** The wall clock set back an hour and forward ten years while readings flow, and a certificate that ends during an outage. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { ROUNDS, TormentedHouse, until } from "./houses/tormented.ts";

const TIMES = Math.max(1, Math.round(ROUNDS / 25));
const TIMEOUT_MS = 180_000 + TIMES * 60_000;
const SEEN_MS_MAX = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const TEN_YEARS_MS = 3_652 * DAY_MS;
/** OpenSSL knows the machine's clock alone: a certificate that is to end soon is given by a cloud whose clock is behind. */
const LEFT_MS = 5_000;

suite("the clock", { concurrency: 2 }, () => {
  test(
    "set back an hour and forward ten years, at the node and at the cloud, with the link up and cut: nothing expires",
    { timeout: TIMEOUT_MS },
    async (t) => {
      const house = await TormentedHouse.open(t);
      const setClock = (who: "node" | "cloud", ms: number): Promise<void> =>
        who === "node" ? house.node.ask("setClock", ms) : house.cloud.ask("setClock", ms);
      for (let n = 0; n < TIMES; n++)
        for (const who of ["node", "cloud"] as const)
          for (const ms of [-HOUR_MS, TEN_YEARS_MS]) {
            await setClock(who, ms);
            await house.written(30);
            house.wire.mode = "cut";
            house.wire.drop();
            await setClock(who, 0);
            await house.written(30);
            await setClock(who, ms);
            if (who === "node") {
              await house.killNode();
              await house.startNode();
              await house.node.ask("write", true);
            }
            house.wire.mode = "pass";
            // A cloud from the future shows a certificate that is not valid yet: it is believed once its clock is right again.
            if (who === "cloud") await setClock(who, 0);
            await house.account();
            await setClock(who, 0);
          }
    },
  );

  test(
    "a certificate that ends while the cloud is away: the node says what to do, keeps everything, and sends it once enrolled again",
    { timeout: TIMEOUT_MS },
    async (t) => {
      const house = await TormentedHouse.open(t, { cloud: { nodeCertificateDays: 1, setMs: LEFT_MS - DAY_MS } });
      await house.written(30);
      house.wire.mode = "cut";
      house.wire.drop();
      await house.cloud.ask("setClock", 0);
      await house.written(30);
      const endMs = performance.now() + LEFT_MS;
      await until("the certificate has ended", () => performance.now() > endMs, SEEN_MS_MAX);
      house.wire.mode = "pass";
      const isTold = async () => /enroll again/.test((await house.node.ask("destination")).reason ?? "");
      await until("the node says so", isTold, SEEN_MS_MAX);
      await house.written(30);
      assert.ok(await isTold());
      await house.enroll();
      await house.account();
    },
  );
});
