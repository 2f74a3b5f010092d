import assert from "node:assert/strict";
import { test } from "node:test";
import type { Block } from "./model.ts";
import { newest, type Piece } from "./newest.ts";

const blockOf = (origins: readonly number[]): Block => ({
  publisher: { name: "p", epoch: 1 },
  series: { deviceName: "d", profileName: "p", sourceName: "s", resources: [] },
  sequences: origins.map((_, i) => i + 1),
  origins: origins.map(BigInt),
  columns: [],
  extras: new Map(),
});

/** A piece that says when it is opened. */
function pieceOf(
  opened: number[],
  name: number,
  origins: readonly number[],
  count: number | null = origins.length,
): Piece {
  const [min, max] = [Math.min(...origins), Math.max(...origins)].map(BigInt);
  return {
    minOrigin: min,
    maxOrigin: max,
    count: count ?? undefined,
    open: () => (opened.push(name), [blockOf(origins)]),
  };
}

const walk = (pieces: readonly Piece[], skip: number, limit: number): number[] => {
  const found: number[] = [];
  for (const { block, row } of newest(pieces, { skip, itemsOf: () => 1 })) {
    found.push(Number(block.origins[row]));
    if (found.length === limit) break;
  }
  return found;
};

test("rows come newest first from pieces that overlap, in order within or not", () => {
  const opened: number[] = [];
  const pieces = [pieceOf(opened, 1, [3, 9, 6]), pieceOf(opened, 2, [1, 4, 8]), pieceOf(opened, 3, [2, 5])];
  assert.deepEqual(walk(pieces, 0, 99), [9, 8, 6, 5, 4, 3, 2, 1]);
  assert.deepEqual(walk(pieces, 3, 2), [5, 4]);
});

test("no more pieces are opened than the answer needs, and one to be passed over whole is not", () => {
  const opened: number[] = [];
  const pieces = [
    pieceOf(opened, 1, [8, 9]),
    pieceOf(opened, 2, [6, 7]),
    pieceOf(opened, 3, [4, 5]),
    pieceOf(opened, 4, [1, 2]),
  ];
  assert.deepEqual(walk(pieces, 3, 2), [6, 5]);
  assert.deepEqual(opened, [2, 3]);
  opened.length = 0;
  const unsure = [pieceOf(opened, 1, [8, 9], null), ...pieces.slice(1)];
  assert.deepEqual(walk(unsure, 2, 1), [7]);
  assert.deepEqual(opened, [1, 2], "only opening tells how many it holds");
});

test("of a row with several items, those that are still to be passed over are told", () => {
  const rows = [...newest([pieceOf([], 1, [1, 2, 3], null)], { skip: 4, itemsOf: () => 3 })];
  assert.deepEqual(
    rows.map(({ row, passed }) => [row, passed]),
    [
      [1, 1],
      [0, 0],
    ],
  );
  assert.deepEqual(
    [...newest([pieceOf([], 1, [1])], { skip: 0, itemsOf: () => 0 })],
    [],
    "what counts nothing is left out",
  );
  assert.deepEqual([...newest([], { skip: 0, itemsOf: () => 1 })], []);
});
