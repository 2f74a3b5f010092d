import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { systemClock as clock } from "../../kernel/clock.ts";
import { Failure } from "../../kernel/error.ts";
import { makeLog } from "../../kernel/log.ts";
import { Admissions, ADMISSIONS_MAX, WRONG_TRIES_MAX } from "./admission.ts";

const quiet = makeLog("identity", { to: { write: () => {} } });
const codeOf = (code: string) => (error: unknown) => error instanceof Failure && error.code === code;

test("an admission is void after too many wrong tries, and the announced that never come are bounded", () => {
  const admissions = new Admissions({ clock, log: quiet });
  const secretSha256 = createHash("sha256").update("right").digest("hex");
  const take = (instance: string, secret: string) => admissions.take({ service: "core-data", instance, secret });
  admissions.expect({ service: "core-data", instance: "guessed", secretSha256 });
  for (let n = 0; n < WRONG_TRIES_MAX; n++)
    assert.throws(() => take("guessed", `wrong-${n}`), codeOf("IDENTITY_JOIN_REFUSED"));
  assert.throws(() => take("guessed", "right"), codeOf("IDENTITY_JOIN_REFUSED"));
  for (let n = 0; n <= ADMISSIONS_MAX; n++)
    admissions.expect({ service: "core-data", instance: `many-${n}`, secretSha256 });
  assert.equal(admissions.size, ADMISSIONS_MAX);
  assert.throws(() => take("many-0", "right"), codeOf("IDENTITY_JOIN_REFUSED"));
  take(`many-${ADMISSIONS_MAX}`, "right");
});
