/** Keeps spans in the store in argv[2] until it is killed, and says on stdout how many are acknowledged. */
import { writeSync } from "node:fs";
import { makeLog } from "../../kernel/log.ts";
import { SpanMaker } from "./fixture.ts";
import { openSpanStore } from "./store.ts";

const [path = "", seed = "1"] = process.argv.slice(2);
const store = openSpanStore({ path, key: Buffer.alloc(32, 7), log: makeLog("trace", { to: 2 }) });
const maker = new SpanMaker(Number(seed), 1_790_000_000_000_000_000n);
let kept = store.count;
writeSync(1, `${kept}\n`);
for (;;) {
  const spans = Array.from({ length: 100 }, () => maker.next()).flat();
  store.add(spans, 1);
  kept += spans.length;
  writeSync(1, `${kept}\n`);
}
