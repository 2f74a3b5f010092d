/** Appends events to a bus that core-data follows, until it is killed: what ingest.test.ts kills. */
import { batch } from "./bus.ts";
import { callOf, edgeHouse } from "./edge.ts";
import { bus } from "../../src/services/bus/api.ts";
import { main as busMain } from "../../src/services/bus/main.ts";
import { main } from "../../src/services/core-data/main.ts";

const [directory, from] = process.argv.slice(2);
const house = edgeHouse({ after: () => undefined }, directory);
await house.start(busMain);
await house.start(main, {});
const publisher = house.connect(bus, "device-x");
for (let s = Number(from) + 1; ; s += 100) {
  const blocks = batch("device-x", 7, s, s + 99, ["d1", "d2", "d3"]);
  await publisher.append({ body: { blocks } }, callOf());
  process.send!(s + 99);
}
