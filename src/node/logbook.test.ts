import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Logbook, readLine } from "./logbook.ts";

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-logbook-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "log");
}

const line = (service: string, n: number, requestId: string) =>
  JSON.stringify({ level: 30, service, requestId, msg: `line ${n} of canary` });

test("the newest lines come back, oldest first, of one service or request where named", async (t) => {
  const directory = place(t);
  const key = randomBytes(32);
  const book = await Logbook.open({ directory, key, onTrouble: assert.fail });
  for (let n = 0; n < 10_000; n++)
    book.add(n % 100 === 0 ? "rare" : "busy", line(n % 100 === 0 ? "rare" : "busy", n, `id-${n % 1000}`));
  assert.deepEqual(
    (await book.tail({ lines: 2 })).map((text) => (JSON.parse(text) as { msg: string }).msg),
    ["line 9998 of canary", "line 9999 of canary"],
  );
  assert.equal((await book.tail({ lines: 10_000, service: "rare" })).length, 100);
  assert.deepEqual(
    (await book.tail({ lines: 100, requestId: 'id-7"' })).map((text) => text.match(/line (\d+)/)?.[1]),
    ["7", "1007", "2007", "3007", "4007", "5007", "6007", "7007", "8007", "9007"],
  );
  await book.close();
  const again = await Logbook.open({ directory, key, onTrouble: assert.fail });
  assert.equal((await again.tail({ lines: 10_000 })).length, 10_000);
  await again.close();
  for (const file of readdirSync(directory))
    assert.ok(!readFileSync(join(directory, file)).includes("canary"), `${file} holds plaintext`);
});

test("who follows the book reads on from a position, page by page; what is gone by then is counted", async (t) => {
  const book = await Logbook.open({
    directory: place(t),
    key: randomBytes(32),
    sizeBytesMax: 1024 * 1024,
    onTrouble: assert.fail,
  });
  for (let n = 1; n <= 1_500; n++) book.add("bus", String(n));
  const first = await book.after(0);
  const second = await book.after(first.next);
  const read = [...first.lines, ...second.lines];
  assert.deepEqual([first.missed, second.missed, second.next], [0, 0, 1_500]);
  assert.ok(read.every(({ position, service, text }) => service === "bus" && text === String(position)));
  assert.equal(read.length, 1_500);
  assert.deepEqual(await book.after(Number.MAX_SAFE_INTEGER), { lines: [], next: 1_500, missed: 0 });
  for (let n = 0; n < 600; n++) {
    book.add("bus", randomBytes(2_000).toString("hex"));
    if (n % 10 === 0) await book.flush();
  }
  const late = await book.after(1_500);
  assert.ok(late.missed > 0 && late.lines[0].position === 1_500 + late.missed + 1);
  await book.close();
});

test("a book that is full loses its oldest lines, never the newest", async (t) => {
  const book = await Logbook.open({
    directory: place(t),
    key: randomBytes(32),
    sizeBytesMax: 1024 * 1024,
    onTrouble: assert.fail,
  });
  for (let round = 0; round < 60; round++) {
    for (let n = 0; n < 10; n++) book.add("x", `${round * 10 + n} ${randomBytes(2_000).toString("hex")}`);
    await book.flush();
  }
  const texts = await book.tail({ lines: 10_000 });
  assert.ok(texts.length > 50 && texts.length < 600, `${texts.length} lines are kept`);
  assert.match(texts.at(-1)!, /^599 /);
  await book.close();
});

test("a crash's last words are a line of level error, and housekeeping is no line", () => {
  assert.equal(readLine(["bus"], "TypeError: x is not a function")?.level, 50);
  assert.equal(readLine(["bus"], "    at foo (bar.js:1)")?.level, 30);
  assert.equal(
    readLine(["bus"], '{"level":40,"service":"bus","msg":"went wrong","err":{"message":"ENOSPC"}}')?.message,
    "went wrong: ENOSPC",
  );
  assert.equal(
    readLine(
      ["core-keeper"],
      '{"level":30,"service":"core-keeper","requestId":"x","operation":"renew","caller":"bus","status":200,"ms":0.2}',
    ),
    undefined,
  );
  assert.ok(
    readLine(
      ["core-keeper"],
      '{"level":30,"service":"core-keeper","requestId":"x","operation":"renew","caller":"bus","status":404,"ms":0.2}',
    ),
  );
});

test("a line in another's name stays its writer's, and no line speaks to the terminal", () => {
  const forged = readLine(["device-x"], '{"level":50,"service":"identity","msg":"the root key is \\u001b[2Jlost"}');
  assert.equal(forged?.service, "device-x");
  assert.equal(forged.message, "the root key is lost");
  const kept = JSON.parse(forged.text) as Record<string, unknown>;
  assert.deepEqual([kept["service"], kept["claimed"]], ["device-x", "identity"]);
  assert.equal(readLine(["bus"], "\u001b]0;x\u0007\u001b[31mred")?.message, "red");
  for (const odd of ["null", "7", '{"level":{},"msg":7,"err":null,"code":[]}', "[]"])
    assert.equal(readLine(["bus"], odd)?.service, "bus", odd);
  assert.equal(readLine(["bus", "trace"], '{"service":"trace","msg":"x"}')?.service, "trace");
});
