/** A PKCS#11 module (OASIS PKCS#11 2.40), loaded and called: the few functions that a key which never leaves its token needs. */
import type koffi from "koffi";
import { fail } from "../../error.ts";
import { SEAL_PKCS11_REFUSED, SEAL_PKCS11_UNUSABLE } from "../codes.ts";

export type Koffi = typeof koffi;
type NativeFunction = (...args: readonly unknown[]) => number;

/** Place of each function in CK_FUNCTION_LIST, behind its version. */
const FUNCTIONS = {
  C_Initialize: 0,
  C_Finalize: 1,
  C_GetSlotList: 4,
  C_GetTokenInfo: 6,
  C_GetMechanismInfo: 8,
  C_OpenSession: 12,
  C_CloseSession: 13,
  C_Login: 18,
  C_Logout: 19,
  C_FindObjectsInit: 26,
  C_FindObjects: 27,
  C_FindObjectsFinal: 28,
  C_EncryptInit: 29,
  C_Encrypt: 30,
  C_DecryptInit: 33,
  C_Decrypt: 34,
  C_GenerateKey: 58,
} as const;
export type FunctionName = keyof typeof FUNCTIONS;

/** What a module answered, where it was not CKR_OK. */
export class Pkcs11Error extends Error {
  readonly rv: number;
  constructor(name: string, rv: number) {
    super(`${name} answered 0x${rv.toString(16)}`);
    this.name = "Pkcs11Error";
    this.rv = rv;
  }
}

export interface Attribute {
  readonly type: number;
  readonly value: Buffer;
}

/** CK_ULONG is a `long` of the machine: eight bytes on both that Holdfast runs on. */
export function ulong(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

const POINTER_BYTES = 8;

export class Pkcs11Module {
  readonly #koffi: Koffi;
  readonly #functions: ReadonlyMap<FunctionName, NativeFunction>;

  /** Loads the module's file; SEAL_PKCS11_UNUSABLE. */
  constructor(koffi: Koffi, path: string) {
    this.#koffi = koffi;
    try {
      const list: unknown[] = [null];
      const rv = koffi.load(path).func("C_GetFunctionList", "ulong", ["_Out_ void **"])(list) as number;
      if (rv !== 0) throw new Pkcs11Error("C_GetFunctionList", rv);
      this.#functions = bind(koffi, list[0]);
    } catch (cause) {
      throw fail(SEAL_PKCS11_UNUSABLE, `the PKCS#11 module ${path} cannot be loaded (${String(cause)})`, { cause });
    }
  }

  /** Calls a function; throws Pkcs11Error. */
  call(name: FunctionName, ...args: readonly unknown[]): void {
    const rv = this.#functions.get(name)?.(...args) ?? -1;
    if (rv !== 0) throw new Pkcs11Error(name, rv);
  }

  /** Lays out attributes as C has them; keep the answer, and what it points to, until the call is over. */
  template(attributes: readonly Attribute[]): Buffer {
    const laid = Buffer.alloc(attributes.length * 3 * POINTER_BYTES);
    attributes.forEach(({ type, value }, index) => {
      const at = index * 3 * POINTER_BYTES;
      laid.writeBigUInt64LE(BigInt(type), at);
      laid.writeBigUInt64LE(this.#koffi.address(value), at + POINTER_BYTES);
      laid.writeBigUInt64LE(BigInt(value.length), at + 2 * POINTER_BYTES);
    });
    return laid;
  }

  /** CK_MECHANISM, with its parameters. */
  mechanism(type: number, parameters: Buffer = Buffer.alloc(0)): Buffer {
    const address = parameters.length === 0 ? 0n : this.#koffi.address(parameters);
    const laid = Buffer.alloc(3 * POINTER_BYTES);
    laid.writeBigUInt64LE(BigInt(type), 0);
    laid.writeBigUInt64LE(address, POINTER_BYTES);
    laid.writeBigUInt64LE(BigInt(parameters.length), 2 * POINTER_BYTES);
    return laid;
  }

  /** CK_GCM_PARAMS: nonce, its bits, associated data, bits of the tag. */
  gcm(nonce: Buffer, associated: Buffer, tagBits: number): Buffer {
    const address = (bytes: Buffer): Buffer => {
      const laid = Buffer.alloc(POINTER_BYTES);
      laid.writeBigUInt64LE(this.#koffi.address(bytes));
      return laid;
    };
    const fields = [address(nonce), ulong(nonce.length), ulong(nonce.length * 8)];
    return Buffer.concat([...fields, address(associated), ulong(associated.length), ulong(tagBits)]);
  }

  /** Answers the slots with a token in them. */
  slots(): number[] {
    const count = ulong(0);
    this.call("C_GetSlotList", 1, null, count);
    const ids = Buffer.alloc(Number(count.readBigUInt64LE()) * POINTER_BYTES);
    this.call("C_GetSlotList", 1, ids, count);
    return Array.from({ length: Number(count.readBigUInt64LE()) }, (_, at) =>
      Number(ids.readBigUInt64LE(at * POINTER_BYTES)),
    );
  }

  /** A token's label, without the blanks that fill it up to 32 bytes. */
  labelOf(slot: number): string {
    const info = Buffer.alloc(TOKEN_INFO_BYTES);
    this.call("C_GetTokenInfo", slot, info);
    return info.toString("utf8", 0, 32).trimEnd();
  }

  /** Runs one of C_Encrypt and C_Decrypt: both ask for room first. */
  transform(name: "C_Encrypt" | "C_Decrypt", session: number, input: Uint8Array, room: number): Buffer {
    const out = Buffer.alloc(room);
    const length = ulong(room);
    this.call(name, session, Buffer.from(input), input.length, out, length);
    return out.subarray(0, Number(length.readBigUInt64LE()));
  }
}

/** CK_TOKEN_INFO, with some to spare. */
const TOKEN_INFO_BYTES = 256;

const NUMBER = "ulong";
const BYTES = "void *";
const PARAMETERS: { readonly [name in FunctionName]: readonly string[] } = {
  C_Initialize: [BYTES],
  C_Finalize: [BYTES],
  C_GetSlotList: ["uint8", BYTES, BYTES],
  C_GetTokenInfo: [NUMBER, BYTES],
  C_GetMechanismInfo: [NUMBER, NUMBER, BYTES],
  C_OpenSession: [NUMBER, NUMBER, BYTES, BYTES, BYTES],
  C_CloseSession: [NUMBER],
  C_Login: [NUMBER, NUMBER, BYTES, NUMBER],
  C_Logout: [NUMBER],
  C_FindObjectsInit: [NUMBER, BYTES, NUMBER],
  C_FindObjects: [NUMBER, BYTES, NUMBER, BYTES],
  C_FindObjectsFinal: [NUMBER],
  C_EncryptInit: [NUMBER, BYTES, NUMBER],
  C_Encrypt: [NUMBER, BYTES, NUMBER, BYTES, BYTES],
  C_DecryptInit: [NUMBER, BYTES, NUMBER],
  C_Decrypt: [NUMBER, BYTES, NUMBER, BYTES, BYTES],
  C_GenerateKey: [NUMBER, BYTES, BYTES, NUMBER, BYTES],
};

function bind(koffi: Koffi, list: unknown): ReadonlyMap<FunctionName, NativeFunction> {
  return new Map(
    Object.entries(FUNCTIONS).map(([name, at]) => {
      // CK_VERSION takes two bytes; the pointers behind it are aligned.
      const address: unknown = koffi.decode(list, POINTER_BYTES * (at + 1), BYTES);
      const kind = koffi.proto(NUMBER, PARAMETERS[name as FunctionName] as string[]);
      return [name as FunctionName, koffi.decode(address, kind) as NativeFunction];
    }),
  );
}

/** Words what a module refused; SEAL_PKCS11_REFUSED. */
export const refused = (cause: unknown): Error =>
  fail(SEAL_PKCS11_REFUSED, `the PKCS#11 token refused (${cause instanceof Error ? cause.message : String(cause)})`, {
    cause,
  });
