/** Keeps spans in the store at argv[3], made by the module argv[2], until it is killed; says on stdout how many are acknowledged. */
import { writeSync } from "node:fs";
import { makeLog } from "../../kernel/log.ts";
import { SpanMaker } from "./fixture.ts";
import type { openSpanStore as Open } from "./store.ts";

const [module = "", path = "", seed = "1"] = process.argv.slice(2);
// The store is handed in, here too.
const { openSpanStore } = (await import(module)) as { openSpanStore: typeof Open };
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
