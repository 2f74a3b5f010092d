/** A Bloom filter: tells for sure that a block of spans has nothing of a word, so that it need not be read. */

/** With 8 probes one block in 300 is read in vain. */
const BITS_PER_WORD = 12;
const PROBES = 8;
const BYTES_MIN = 8;

/** Makes the filter of a set of words. */
export function bloomOf(words: ReadonlySet<string>): Uint8Array {
  const bloom = new Uint8Array(Math.max(BYTES_MIN, Math.ceil((words.size * BITS_PER_WORD) / 8)));
  const bits = bloom.length * 8;
  for (const word of words) {
    const [first, step] = hashes(word);
    for (let i = 0; i < PROBES; i++) {
      const bit = ((first + Math.imul(i, step)) >>> 0) % bits;
      bloom[bit >> 3] |= 1 << (bit & 7);
    }
  }
  return bloom;
}

/** Tells whether the filter's set may have a word; false is certain. */
export function mayHold(bloom: Uint8Array, word: string): boolean {
  const bits = bloom.length * 8;
  const [first, step] = hashes(word);
  for (let i = 0; i < PROBES; i++) {
    const bit = ((first + Math.imul(i, step)) >>> 0) % bits;
    if ((bloom[bit >> 3] & (1 << (bit & 7))) === 0) return false;
  }
  return true;
}

/** Two hashes of a word (FNV-1a from two bases, each mixed to the end): the first probe and the step to the next. */
function hashes(word: string): readonly [first: number, step: number] {
  let a = 0x811c9dc5;
  let b = 0x9e3779b9;
  for (let i = 0; i < word.length; i++) {
    const char = word.charCodeAt(i);
    a = Math.imul(a ^ char, 0x01000193);
    b = Math.imul(b ^ char, 0x85ebca6b);
  }
  return [mixed(a), mixed(b) | 1];
}

function mixed(hash: number): number {
  let h = hash ^ (hash >>> 16);
  h = Math.imul(h, 0x7feb352d);
  h ^= h >>> 15;
  h = Math.imul(h, 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}
