/**
 * A process to be killed: `cloud DIRECTORY` serves a cloud and says "port N"; `node DIRECTORY URL` joins it, appends events
 * until it is killed, and says "a EPOCH LAST" for what the bus has acknowledged. Codes come and go over the pipe.
 */
import { writeSync } from "node:fs";
import { once } from "node:events";
import { systemClock } from "../../src/kernel/clock.ts";
import { nextEpoch } from "../../src/kernel/epoch.ts";
import { events, startCloud, startNode } from "./uplink.ts";

const [role, directory = "", url = "", seed = "1"] = process.argv.slice(2);
let state = Number(seed);
/** A small generator with a seed: a failing round can be repeated. */
const random = (below: number): number => {
  state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
  return (state >>> 8) % below;
};

if (role === "cloud") {
  const cloud = await startCloud(directory);
  process.on("message", () => void cloud.code().then((code) => process.send?.({ code })));
  writeSync(1, `port ${cloud.port}\n`);
} else {
  const node = await startNode(directory, { pipeline: { batchEvents: 50, batchMs: 5 } });
  if ((await node.destination()).state === "not-enrolled") {
    process.send?.({ want: "code" });
    const [{ code }] = (await once(process, "message")) as [{ code: string }];
    await node.enroll(url, code);
  }
  process.disconnect?.();
  const epoch = nextEpoch(directory, systemClock, "publisher");
  const devices = ["a", "b", "c"];
  for (let last = 0; ;) {
    const to = last + 1 + random(30);
    await node.append("device-a", events("device-a", last + 1, to, { epoch, devices, resources: 3 }));
    last = to;
    writeSync(1, `a ${epoch} ${last}\n`);
    if (random(10) === 0) await new Promise((resolve) => setTimeout(resolve, random(20)));
  }
}
