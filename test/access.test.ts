/** Whom a whole node believes: its confined gateway reaches the issuer that the config names, and nobody else. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { test } from "node:test";
import { makeKey, sign, startIssuer } from "./houses/issuer.ts";
import { Whole } from "./houses/whole.ts";

const AUDIENCE = "https://edge.example";

test("a confined gateway believes an issuer of its config, by name and with files that it may not read itself", async (t) => {
  const key = makeKey("k");
  const issuer = await startIssuer([key]);
  const directory = mkdtempSync(join(tmpdir(), "access-"));
  const caFile = join(directory, "plant-ca.pem");
  writeFileSync(caFile, issuer.caPem, { mode: 0o600 });
  const gateway = { issuers: [{ name: "plant", issuer: issuer.url, caFile, audiences: [AUDIENCE] }] };
  const whole = new Whole({ config: `gateway: ${JSON.stringify(gateway)}\n` });
  t.after(async () => {
    await whole.remove();
    await issuer.stop();
    rmSync(directory, { recursive: true });
  });
  await whole.start();
  const grants = [{ name: "all", issuer: "plant", scopes: ["node:read"] }];
  writeFileSync(join(whole.state, "routes.yaml"), JSON.stringify({ grants }));
  const claims = { iss: issuer.url, aud: AUDIENCE, sub: "ann", exp: Math.floor(Date.now() / 1000) + 600 };
  const token = await sign(claims, key);
  const ask = () =>
    new Promise<{ subject?: string; scopes?: string[] }>((resolve, reject) => {
      request(
        {
          port: whole.gatewayPort,
          path: "/session",
          rejectUnauthorized: false,
          headers: { authorization: `Bearer ${token}` },
        },
        (answer) => void json(answer).then((value) => resolve(value as object), reject),
      )
        .on("error", reject)
        .end();
    });
  let told = await ask();
  // The file is taken a moment after it was written.
  await whole.until(async () => ((told = await ask()).scopes ?? []).length > 0, "the routes file to be taken");
  assert.deepEqual([told.subject, told.scopes], ["plant/ann", ["node:read"]]);
});
