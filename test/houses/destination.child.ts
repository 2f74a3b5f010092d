/** Runs in the pipeline's sandbox, for test/sandbox.test.ts: sends a batch to each address it is given and tells what happened. */
import { once } from "node:events";
import { makeCall } from "../../src/kernel/call.ts";
import { enrollWith } from "../../src/services/pipeline/enroll.ts";
import { batchOf, LIVE, never, senderOf } from "../../src/services/pipeline/destinations/fixture.ts";

const [said] = (await once(process.stdin, "data")) as [Buffer];
const outcomes: string[] = [];
const asked = JSON.parse(said.toString()) as { ways: { url: string; localAddress?: string }[]; enroll: string };
for (const { url, localAddress } of asked.ways) {
  const sender = await senderOf({ kind: "https", url, timeoutMs: 5_000 }, "there", { localAddress });
  outcomes.push(
    await sender.send(LIVE, [batchOf(1)], never).then(
      ({ durable }) => `durable ${durable}`,
      (error: { code?: string; message: string }) => `${error.code} ${error.message}`,
    ),
  );
  await sender.close();
}
const code = `secret.${Buffer.alloc(32).toString("base64url")}`;
const call = makeCall({ caller: "test", timeoutMs: 5_000 });
const enrolled = enrollWith(asked.enroll, code, "edge1", call);
outcomes.push(
  await enrolled.then(
    () => "enrolled",
    (error: Error) => error.message,
  ),
);
console.log(JSON.stringify(outcomes));
