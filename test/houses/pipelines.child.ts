/**
 * A process to be killed: a bus and pipelines whose functions remember, in DIRECTORY; appends events of two devices until
 * it is killed, and pauses at times, so that what is due by time is told. Says "a LAST" for what the bus has acknowledged.
 */
import { writeSync } from "node:fs";
import { PipelineRig } from "./pipelines.ts";
import { call, events } from "./uplink.ts";
import { DEVICES, PUBLISHER, STATEFUL, valueOf } from "./stateful.ts";

const [directory = "", seed = "1"] = process.argv.slice(2);
let state = Number(seed);
/** A small generator with a seed: a failing round can be repeated. */
const random = (below: number): number => {
  state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
  return (state >>> 8) % below;
};

const rig = await PipelineRig.open({ after: () => undefined }, directory);
rig.start(STATEFUL);
const { publishers } = await rig.bus.backlog({}, call());
for (let last = publishers.find(({ name }) => name === PUBLISHER)?.last ?? 0; ;) {
  const to = last + 1 + random(40);
  await rig.appendBytes(PUBLISHER, events(PUBLISHER, last + 1, to, { devices: DEVICES, value: valueOf }));
  last = to;
  writeSync(1, `a ${last}\n`);
  await new Promise((resolve) => setTimeout(resolve, random(25) === 0 ? 2_200 : random(6)));
}
