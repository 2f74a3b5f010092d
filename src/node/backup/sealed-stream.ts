/**
 * A stream of bytes sealed for the owner of an escrow key: nobody else reads it, and no part of it can be cut, swapped or left out.
 *
 *   magic(8) version(1) publicKey(44) wrapped key(length(2) bytes)   then chunks: isLast(1) length(4) sealed bytes and tag(16)
 */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { code, fail } from "../../kernel/error.ts";
import { openEscrow, PUBLIC_KEY_BYTES, sealEscrow } from "../../kernel/seal/escrow.ts";

export const NODE_BACKUP_DAMAGED = code(
  "NODE_BACKUP_DAMAGED",
  "invalid",
  "Take another copy of the backup: this one was cut, altered, or is none of Holdfast's.",
);

const MAGIC = Buffer.from("HFBACKUP");
const VERSION = 1;
const CHUNK_BYTES = 1024 * 1024;
const TAG_BYTES = 16;
const LEAD_BYTES = 5;
const KEY_BYTES = 32;
/** What a wrapped key takes, with some to spare. */
const WRAPPED_BYTES_MAX = 1024;

/** The chunk's number is its nonce: the key is of this stream alone. */
function nonceOf(number: number): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(number, 6, 6);
  return nonce;
}

/** Seals a stream. SEAL_ESCROW_KEY_INVALID. */
export async function* sealStream(publicKey: Uint8Array, parts: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  const key = randomBytes(KEY_BYTES);
  const { kek } = sealEscrow(publicKey, key);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(kek.length);
  yield Buffer.concat([MAGIC, Buffer.of(VERSION), publicKey, length, kek]);
  let number = 0;
  const chunk = (plain: Uint8Array, isLast: boolean): Buffer => {
    const lead = Buffer.alloc(LEAD_BYTES);
    lead.writeUInt8(isLast ? 1 : 0);
    lead.writeUInt32BE(plain.length, 1);
    const cipher = createCipheriv("aes-256-gcm", key, nonceOf(number++), { authTagLength: TAG_BYTES });
    cipher.setAAD(lead);
    const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
    return Buffer.concat([lead, sealed, cipher.getAuthTag()]);
  };
  let waiting = Buffer.alloc(0);
  for await (const part of parts) {
    waiting = Buffer.concat([waiting, part]);
    for (; waiting.length > CHUNK_BYTES; waiting = waiting.subarray(CHUNK_BYTES))
      yield chunk(waiting.subarray(0, CHUNK_BYTES), false);
  }
  yield chunk(waiting, true);
  key.fill(0);
}

/** Takes bytes from a stream in the pieces that are asked for. */
export class Pieces {
  readonly #parts: AsyncIterator<Uint8Array>;
  #held = Buffer.alloc(0);

  constructor(parts: AsyncIterable<Uint8Array>) {
    this.#parts = parts[Symbol.asyncIterator]();
  }

  /** Answers so many bytes; undefined at the end of the stream. NODE_BACKUP_DAMAGED where it ends in the middle of them. */
  async take(count: number): Promise<Buffer | undefined> {
    while (this.#held.length < count) {
      const next: IteratorResult<Uint8Array, unknown> = await this.#parts.next();
      if (next.done) {
        if (this.#held.length === 0) return undefined;
        throw fail(NODE_BACKUP_DAMAGED, "the backup ends in the middle of something");
      }
      this.#held = Buffer.concat([this.#held, next.value]);
    }
    const taken = this.#held.subarray(0, count);
    this.#held = this.#held.subarray(count);
    return taken;
  }

  /** As `take`, where there must be something. */
  async need(count: number): Promise<Buffer> {
    const taken = await this.take(count);
    if (count > 0 && !taken) throw fail(NODE_BACKUP_DAMAGED, "the backup ends too early");
    return taken ?? Buffer.alloc(0);
  }
}

/** Opens a sealed stream. NODE_BACKUP_DAMAGED, SEAL_ESCROW_KEY_WRONG, SEAL_ESCROW_KEY_INVALID. */
export async function* openStream(privatePem: string, sealed: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  const pieces = new Pieces(sealed);
  const head = await pieces.need(MAGIC.length + 1);
  if (!head.subarray(0, MAGIC.length).equals(MAGIC)) throw fail(NODE_BACKUP_DAMAGED, "that is no backup of Holdfast's");
  if (head[MAGIC.length] !== VERSION)
    throw fail(
      NODE_BACKUP_DAMAGED,
      `the backup is of version ${head[MAGIC.length]}, and this Holdfast knows ${VERSION}`,
    );
  const publicKey = await pieces.need(PUBLIC_KEY_BYTES);
  const length = (await pieces.need(2)).readUInt16BE();
  if (length > WRAPPED_BYTES_MAX) throw fail(NODE_BACKUP_DAMAGED, "the backup's key has no length of a key");
  const key = openEscrow(privatePem, { publicKey, kek: await pieces.need(length) });
  try {
    for (let [number, isLast] = [0, false]; !isLast; number++) {
      const lead = await pieces.need(LEAD_BYTES);
      isLast = lead.readUInt8() === 1;
      const bytes = lead.readUInt32BE(1);
      if (bytes > CHUNK_BYTES) throw fail(NODE_BACKUP_DAMAGED, `a part of the backup has ${bytes} bytes`);
      yield openChunk(key, number, lead, await pieces.need(bytes + TAG_BYTES));
    }
    if (await pieces.take(1)) throw fail(NODE_BACKUP_DAMAGED, "something follows the end of the backup");
  } finally {
    key.fill(0);
  }
}

function openChunk(key: Buffer, number: number, lead: Buffer, sealed: Buffer): Buffer {
  const decipher = createDecipheriv("aes-256-gcm", key, nonceOf(number), { authTagLength: TAG_BYTES });
  decipher.setAAD(lead);
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  const plain = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES));
  try {
    decipher.final();
    return plain;
  } catch (cause) {
    throw fail(NODE_BACKUP_DAMAGED, `part ${number} of the backup was altered`, { cause });
  }
}
