/**
 * A key for each device, under which its chunks lie in the database: without it they are nothing to anybody, however many they are.
 * The database has its own key and checks its pages, so this one only has to hide (AES-256-CTR, eight random bytes each).
 */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { Database, Statement } from "../../kernel/database.ts";

const CIPHER = "aes-256-ctr";
const KEY_BYTES = 32;
const NONCE_BYTES = 8;
/** The counter of a chunk begins at 0: its nonce is never used again under the same key. */
const COUNTER = Buffer.alloc(8);

export const DEVICE_KEYS_SCHEMA = `
  CREATE TABLE device_key (id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL UNIQUE, key BLOB NOT NULL);
  -- 0: from before there were keys of devices.
  ALTER TABLE chunk ADD COLUMN device_key INTEGER NOT NULL DEFAULT 0;
`;

interface DeviceKey {
  readonly id: number;
  readonly key: Buffer;
}

export class DeviceKeys {
  readonly #byDevice = new Map<string, DeviceKey>();
  readonly #byId = new Map<number, Buffer>();
  readonly #insert: Statement<never, [string, Uint8Array]>;
  readonly #delete: Statement<never, [string]>;

  constructor(db: Database) {
    this.#insert = db.prepare("INSERT INTO device_key (device, key) VALUES (?, ?)");
    this.#delete = db.prepare("DELETE FROM device_key WHERE device = ?");
    this.#load(db);
  }

  #load(db: Database): void {
    const all = db.prepare<{ id: number; device: string; key: Uint8Array }>("SELECT id, device, key FROM device_key");
    for (const { id, device, key } of all.all()) this.#keep(device, { id, key: Buffer.from(key) });
  }

  #keep(device: string, one: DeviceKey): void {
    this.#byDevice.set(device, one);
    this.#byId.set(one.id, one.key);
  }

  /** Reads anew what a transaction that was undone had changed. */
  reload(db: Database): void {
    this.#byDevice.clear();
    this.#byId.clear();
    this.#load(db);
  }

  /** Encrypts what a device's chunk holds; makes the device's key at the first. In its caller's transaction. */
  seal(device: string, blocks: Uint8Array): { id: number; sealed: Uint8Array } {
    let own = this.#byDevice.get(device);
    if (!own) {
      const key = randomBytes(KEY_BYTES);
      own = { id: Number(this.#insert.run(device, key).lastInsertRowid), key };
      this.#keep(device, own);
    }
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, own.key, Buffer.concat([nonce, COUNTER]));
    return { id: own.id, sealed: Buffer.concat([nonce, cipher.update(blocks)]) };
  }

  /** Decrypts a chunk; undefined where its device's key was destroyed. */
  open(id: number, sealed: Uint8Array): Uint8Array | undefined {
    if (id === 0) return sealed;
    const key = this.#byId.get(id);
    if (!key) return undefined;
    const nonce = Buffer.concat([sealed.subarray(0, NONCE_BYTES), COUNTER]);
    return createDecipheriv(CIPHER, key, nonce).update(sealed.subarray(NONCE_BYTES));
  }

  /** Destroys a device's key. In its caller's transaction. */
  destroy(device: string): void {
    this.#delete.run(device);
    const own = this.#byDevice.get(device);
    if (!own) return;
    own.key.fill(0);
    this.#byDevice.delete(device);
    this.#byId.delete(own.id);
  }
}
