/**
 * An order-0 entropy coder: range asymmetric numeral systems with a static table, bytewise. It spends close to
 * log2(1/probability) bits on a symbol, a fraction of a bit on a frequent one, at some 10 ns each.
 */
import { malformed } from "./bytes.ts";
import type { Reader } from "./reader.ts";
import type { Writer } from "./writer.ts";

/** Symbols of one alphabet: 0 to SYMBOLS_MAX - 1. */
export const SYMBOLS_MAX = 288;
/** Symbols coded with one table. */
export const STREAM_MAX = 4096;

const LOW = 2 ** 23;
const BITS_MAX = 12;
const out = new Uint8Array(STREAM_MAX * 2 + 8);
const starts = new Int32Array(SYMBOLS_MAX + 1);
const shares = new Int32Array(SYMBOLS_MAX);
const symbolOf = new Uint16Array(2 ** BITS_MAX);

/** log2 of whole numbers to STREAM_MAX, times the number: an entropy is sums of these. */
export const weighted = Float64Array.from({ length: STREAM_MAX + 1 }, (_, n) => (n === 0 ? 0 : n * Math.log2(n)));

// Few symbols need no fine shares, and their table is built faster.
const tableBits = (count: number) => (count <= 512 ? 10 : count <= 2048 ? 11 : BITS_MAX);

/** Bits that the table of `counts` (of `total` symbols) and the symbols' code take, about; at least one count is above 0. */
export function ransCost(counts: Int32Array, symbols: number, total: number): number {
  const scale = 2 ** tableBits(total) / total;
  let bits = weighted[total];
  let gaps = 0;
  for (let s = 0; s < symbols; s++) {
    const n = counts[s];
    if (n === 0) {
      gaps++;
      continue;
    }
    bits -= weighted[n];
    bits += gaps + 2 * (32 - Math.clz32(n * scale + 1)) - 1;
    gaps = 0;
  }
  return bits + 56;
}

/** Turns counts into shares of 2^bits, at least one for whatever occurs. */
function share(counts: Int32Array, symbols: number, total: number, bits: number): void {
  const whole = 2 ** bits;
  let left = whole;
  let largest = 0;
  for (let s = 0; s < symbols; s++) {
    const n = counts[s];
    const given = n === 0 ? 0 : Math.max(1, Math.round((n * whole) / total));
    shares[s] = given;
    left -= given;
    if (given > shares[largest]) largest = s;
  }
  // What rounding left over or overspent goes to the largest; if that is too little to give, to the next largest.
  while (left < 0) {
    const given = Math.min(-left, shares[largest] >> 1);
    shares[largest] = shares[largest] - given;
    left += given;
    for (let s = 0; s < symbols; s++) if (shares[s] > shares[largest]) largest = s;
  }
  shares[largest] = shares[largest] + left;
}

function sum(symbols: number): number {
  let at = 0;
  for (let s = 0; s < symbols; s++) {
    starts[s] = at;
    at += shares[s];
  }
  return at;
}

/** Writes `total` symbols (1 to STREAM_MAX), each below `symbols`, which `counts` counts. */
export function writeRans(w: Writer, stream: Uint16Array, total: number, counts: Int32Array, symbols: number): void {
  const bits = tableBits(total);
  share(counts, symbols, total, bits);
  sum(symbols);
  w.varint(symbols);
  for (let s = 0; s < symbols; s++) {
    // Elias gamma of share + 1: a gap costs one bit.
    const n = shares[s] + 1;
    const length = 32 - Math.clz32(n);
    w.bits(1 << (length - 1), length);
    w.bits(n & ((1 << (length - 1)) - 1), length - 1);
  }
  w.endBits();
  let at = out.length;
  let x = LOW;
  for (let i = total - 1; i >= 0; i--) {
    const s = stream[i];
    const part = shares[s];
    const max = ((LOW >> bits) << 8) * part;
    while (x >= max) {
      out[--at] = x;
      x >>>= 8;
    }
    const q = (x / part) | 0;
    x = (q << bits) + (x - q * part) + starts[s];
  }
  for (let shift = 0; shift < 32; shift += 8) out[--at] = x >>> shift;
  w.varint(out.length - at - 4);
  w.raw(out.subarray(at));
}

/** Reads `total` symbols into `stream`. */
export function readRans(r: Reader, stream: Uint16Array, total: number): void {
  const bits = tableBits(total);
  const symbols = r.count(SYMBOLS_MAX, "symbols in an alphabet");
  for (let s = 0; s < symbols; s++) {
    let length = 1;
    while (r.bits(1) === 0) if (++length > BITS_MAX + 2) throw malformed("a share beyond its whole");
    shares[s] = (1 << (length - 1)) + r.bits(length - 1) - 1;
  }
  r.endBits();
  if (sum(symbols) !== 2 ** bits) throw malformed("shares that are not a whole");
  for (let s = 0; s < symbols; s++) symbolOf.fill(s, starts[s], starts[s] + shares[s]);
  const bytes = r.raw(r.varint() + 4);
  const end = bytes.length;
  let at = 4;
  let x = (bytes[0] << 24) | (bytes[1] << 16) | (bytes[2] << 8) | bytes[3];
  if (x < LOW) throw malformed("a code without a start");
  const mask = 2 ** bits - 1;
  for (let i = 0; i < total; i++) {
    const slot = x & mask;
    const s = symbolOf[slot];
    stream[i] = s;
    // x stays below 2^31: whole numbers of 32 bits, and no doubles on the way.
    x = (Math.imul(shares[s], x >>> bits) + slot - starts[s]) | 0;
    while (x < LOW) {
      if (at >= end) throw malformed("a code that ends too early");
      x = (x << 8) | bytes[at++];
    }
  }
  if (x !== LOW || at !== end) throw malformed("a code with a wrong end");
}
