/** Appends to the journal in argv[2] until it is killed, and says on stdout what was acknowledged ("a FIRST LAST") and trimmed ("t THROUGH"). */
import { writeSync } from "node:fs";
import { entryOf, key } from "./fixture.ts";
import { openJournal } from "./journal.ts";

const [directory = "", seed = "1"] = process.argv.slice(2);
let state = Number(seed);
/** A small generator with a seed: a failing round can be repeated. */
const random = (below: number): number => {
  state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
  return (state >>> 8) % below;
};

const journal = await openJournal({ directory, key, segmentBytesMax: 64 * 1024 });
let next = journal.last + 1; // appends get their positions in order of their calls

const writer = async (): Promise<never> => {
  for (;;) {
    const count = random(4) === 0 ? 1 + random(40) : 1;
    const entries = Array.from({ length: count }, (_, i) => entryOf(next + i));
    next += count;
    const { first, last } = await journal.appendMany(entries);
    writeSync(1, `a ${first} ${last}\n`);
    if (random(200) === 0 && last > 3000) {
      writeSync(1, `t ${last - 3000}\n`);
      await journal.trim(last - 3000);
    }
  }
};
writeSync(1, "open\n");
await Promise.all(Array.from({ length: 20 }, writer));
