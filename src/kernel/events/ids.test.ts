import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { eventId, parseId, publisherTag, readingId } from "./ids.ts";

const below = (bits: number) =>
  fc.oneof(
    fc.nat().map((n) => n % 2 ** bits),
    fc.bigInt({ min: 0n, max: 2n ** BigInt(bits) - 1n }).map(Number),
    fc.constantFrom(0, 1, 2 ** bits - 1),
  );

test("an id says what it was made of, and is a UUID of version 8", () => {
  fc.assert(
    fc.property(below(36), below(32), below(42), fc.nat(4094), (tag, epoch, sequence, column) => {
      const event = eventId(tag, epoch, sequence);
      const reading = readingId(tag, epoch, sequence, column);
      for (const id of [event, reading])
        assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      assert.deepEqual(parseId(event), { tag, epoch, sequence, index: 0 });
      assert.deepEqual(parseId(reading), { tag, epoch, sequence, index: column + 1 });
    }),
    { seed: 1, numRuns: 500 },
  );
});

test("the layout is the one written down", () => {
  assert.equal(eventId(0x123456789, 0xabcdef12, 63 * 2 ** 36 + 0x987654321), "12345678-9abc-8def-84bf-987654321000");
  assert.equal(eventId(0xfedcba987, 0xffffffff, 2 ** 42 - 1), "fedcba98-7fff-8fff-bfff-fffffffff000");
  assert.equal(readingId(0, 0, 1, 0), "00000000-0000-8000-8000-000000001001");
});

test("other texts are no ids of ours", () => {
  for (const text of [
    "",
    "00000000-0000-4000-8000-000000001001",
    "00000000-0000-8000-c000-000000001001",
    "0000000000000-8000-8000-000000001001x",
    "0000000g-0000-8000-8000-000000001001",
    "FFFFFFFF-0000-8000-8000-000000001001",
    "00000000-0000-8000-8000-00000000100ü",
  ]) {
    assert.equal(parseId(text), undefined, text);
  }
});

test("a tag is 36 bits of the node's and the publisher's names, and no two names run together", () => {
  const tag = publisherTag("node-1", "device-host");
  assert.ok(Number.isInteger(tag) && tag >= 0 && tag < 2 ** 36);
  assert.equal(publisherTag("node-1", "device-host"), tag);
  assert.notEqual(publisherTag("a", "bc"), publisherTag("ab", "c"));
});
