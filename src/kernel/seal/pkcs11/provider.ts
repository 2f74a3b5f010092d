/** The PKCS#11 provider: an AES key that never leaves its token (an HSM, a smart card, a trusted execution environment). */
import { randomBytes } from "node:crypto";
import { Failure, fail } from "../../error.ts";
import {
  SEAL_KEYRING_DAMAGED,
  SEAL_PKCS11_KEY_MISSING,
  SEAL_PKCS11_KEY_WRONG,
  SEAL_PKCS11_PIN_REFUSED,
  SEAL_PKCS11_TOKEN_MISSING,
} from "../codes.ts";
import type { KeyProvider } from "../provider.ts";
import { type Attribute, type Koffi, Pkcs11Error, Pkcs11Module, refused, ulong } from "./module.ts";

export interface Pkcs11Options {
  /** Loads the caller of native functions: it costs milliseconds, and most nodes have no token. */
  koffi(): Koffi;
  /** The module's file, such as libsofthsm2.so. */
  readonly module: string;
  readonly tokenLabel: string;
  readonly keyLabel: string;
  /** Reads the PIN when it is needed; it is zeroed after the login. */
  pin(): Promise<Buffer>;
}

const FORMAT = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HEADER_BYTES = 1 + NONCE_BYTES;
const ASSOCIATED = Buffer.from("holdfast key-encryption key in a PKCS#11 token");

const CKF_SERIAL_SESSION = 4;
const CKF_RW_SESSION = 2;
const CKF_OS_LOCKING_OK = 2;
const CKU_USER = 1;
const CKM_AES_KEY_GEN = 0x1080;
const CKM_AES_GCM = 0x1087;
const CKR_ALREADY_INITIALIZED = 0x191;
const CKR_ALREADY_LOGGED_IN = 0x100;
const PIN_CODES: readonly number[] = [0xa0, 0xa1, 0xa2, 0xa3, 0xa4];
const TRUE = Buffer.of(1);
const FALSE = Buffer.of(0);
const CKA = { class: 0, token: 1, private: 2, label: 3, keyType: 0x100, sensitive: 0x103 } as const;
const CKA_USE = { encrypt: 0x104, decrypt: 0x105, valueBytes: 0x161, extractable: 0x162 } as const;
const CKO_SECRET_KEY = 4;
const CKK_AES = 0x1f;

/**
 * Makes the provider. SEAL_PKCS11_UNUSABLE, SEAL_PKCS11_TOKEN_MISSING, SEAL_PKCS11_PIN_REFUSED, SEAL_PKCS11_KEY_MISSING,
 * SEAL_PKCS11_KEY_WRONG, SEAL_PKCS11_REFUSED.
 */
export function pkcs11Provider(options: Pkcs11Options): KeyProvider {
  return {
    name: "pkcs11",
    promise: `protects everything on the disk against whoever has the disk without the token '${options.tokenLabel}' and its PIN`,
    wrap: (key) =>
      withToken(options, (token) => {
        const nonce = randomBytes(NONCE_BYTES);
        const handle = token.find(options.keyLabel) ?? token.generate(options.keyLabel);
        return Buffer.concat([Buffer.of(FORMAT), nonce, token.encrypt(handle, nonce, key)]);
      }),
    async unwrap(blob) {
      const bytes = Buffer.from(blob);
      if (bytes.length <= HEADER_BYTES + TAG_BYTES || bytes[0] !== FORMAT)
        throw fail(SEAL_KEYRING_DAMAGED, "the key ring's PKCS#11 part is not of a form that this version knows");
      return withToken(options, (token) => {
        const handle = token.find(options.keyLabel);
        if (handle === undefined)
          throw fail(
            SEAL_PKCS11_KEY_MISSING,
            `the token '${options.tokenLabel}' has no key '${options.keyLabel}', which this node's key ring was sealed with`,
          );
        try {
          return token.decrypt(handle, bytes.subarray(1, HEADER_BYTES), bytes.subarray(HEADER_BYTES));
        } catch (cause) {
          // Modules have half a dozen codes for a tag that does not fit.
          throw fail(
            SEAL_PKCS11_KEY_WRONG,
            `the key '${options.keyLabel}' of the token '${options.tokenLabel}' does not open this node's key ring`,
            { cause },
          );
        }
      });
    },
  };
}

class Token {
  readonly #module: Pkcs11Module;
  readonly #session: number;

  constructor(module: Pkcs11Module, session: number) {
    this.#module = module;
    this.#session = session;
  }

  find(label: string): number | undefined {
    const wanted = [
      { type: CKA.class, value: ulong(CKO_SECRET_KEY) },
      { type: CKA.keyType, value: ulong(CKK_AES) },
      { type: CKA.label, value: Buffer.from(label) },
    ];
    const [handle, count] = [ulong(0), ulong(0)];
    this.#module.call("C_FindObjectsInit", this.#session, this.#module.template(wanted), wanted.length);
    this.#module.call("C_FindObjects", this.#session, handle, 1, count);
    this.#module.call("C_FindObjectsFinal", this.#session);
    return count.readBigUInt64LE() === 0n ? undefined : Number(handle.readBigUInt64LE());
  }

  /** Makes an AES-256 key in the token, which gives it to nobody. */
  generate(label: string): number {
    const wanted: Attribute[] = [
      { type: CKA.class, value: ulong(CKO_SECRET_KEY) },
      { type: CKA.keyType, value: ulong(CKK_AES) },
      { type: CKA_USE.valueBytes, value: ulong(32) },
      { type: CKA.label, value: Buffer.from(label) },
      ...[CKA.token, CKA.private, CKA.sensitive, CKA_USE.encrypt, CKA_USE.decrypt].map((type) => ({
        type,
        value: TRUE,
      })),
      { type: CKA_USE.extractable, value: FALSE },
    ];
    const handle = ulong(0);
    const template = this.#module.template(wanted);
    const mechanism = this.#module.mechanism(CKM_AES_KEY_GEN);
    this.#module.call("C_GenerateKey", this.#session, mechanism, template, wanted.length, handle);
    return Number(handle.readBigUInt64LE());
  }

  encrypt(handle: number, nonce: Buffer, plain: Uint8Array): Buffer {
    this.#begin("C_EncryptInit", handle, nonce);
    return this.#module.transform("C_Encrypt", this.#session, plain, plain.length + TAG_BYTES);
  }

  decrypt(handle: number, nonce: Buffer, sealed: Uint8Array): Buffer {
    this.#begin("C_DecryptInit", handle, nonce);
    return this.#module.transform("C_Decrypt", this.#session, sealed, sealed.length);
  }

  #begin(name: "C_EncryptInit" | "C_DecryptInit", handle: number, nonce: Buffer): void {
    const own = Buffer.from(nonce);
    const parameters = this.#module.gcm(own, ASSOCIATED, TAG_BYTES * 8);
    this.#module.call(name, this.#session, this.#module.mechanism(CKM_AES_GCM, parameters), handle);
  }
}

/** Runs work in a session of its own with the user logged in; the module is given up afterwards. */
async function withToken<T>(options: Pkcs11Options, work: (token: Token) => T): Promise<T> {
  const pin = await options.pin();
  try {
    const module = new Pkcs11Module(options.koffi(), options.module);
    initialize(module);
    try {
      return inSession(module, options.tokenLabel, pin, work);
    } finally {
      module.call("C_Finalize", null);
    }
  } catch (error) {
    throw error instanceof Failure ? error : refused(error);
  } finally {
    pin.fill(0);
  }
}

function initialize(module: Pkcs11Module): void {
  // CK_C_INITIALIZE_ARGS: no functions of ours, the system's own locks.
  const args = Buffer.alloc(6 * 8);
  args.writeBigUInt64LE(BigInt(CKF_OS_LOCKING_OK), 4 * 8);
  tolerating(CKR_ALREADY_INITIALIZED, () => module.call("C_Initialize", args));
}

function inSession<T>(module: Pkcs11Module, label: string, pin: Buffer, work: (token: Token) => T): T {
  const slots = module.slots();
  const slot = slots.find((id) => module.labelOf(id) === label);
  if (slot === undefined)
    throw fail(
      SEAL_PKCS11_TOKEN_MISSING,
      `no token is called '${label}'; there are: ${slots.map((id) => `'${module.labelOf(id)}'`).join(", ") || "none"}`,
    );
  const opened = ulong(0);
  module.call("C_OpenSession", slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, null, null, opened);
  const session = Number(opened.readBigUInt64LE());
  try {
    try {
      tolerating(CKR_ALREADY_LOGGED_IN, () => module.call("C_Login", session, CKU_USER, pin, pin.length));
    } catch (cause) {
      if (!(cause instanceof Pkcs11Error) || !PIN_CODES.includes(cause.rv)) throw cause;
      throw fail(SEAL_PKCS11_PIN_REFUSED, `the token '${label}' refuses the PIN (0x${cause.rv.toString(16)})`, {
        cause,
      });
    }
    return work(new Token(module, session));
  } finally {
    module.call("C_CloseSession", session);
  }
}

function tolerating(rv: number, work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof Pkcs11Error) || error.rv !== rv) throw error;
  }
}
