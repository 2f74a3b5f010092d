export const PROVIDERS = ["tpm", "pkcs11", "passphrase", "key-file"] as const;
/** The registers of a TPM are 0 to 23. */
export const PCR_MAX = 23;
export type ProviderName = (typeof PROVIDERS)[number];

/** A way of keeping the key-encryption key: what a thief of the disk would have to get besides. */
export interface KeyProvider {
  readonly name: ProviderName;
  /** What it protects against, and what not, in honest words for people. */
  readonly promise: string;
  /** The file that it relies on, if any; `openKeyRing` refuses one inside the state directory. */
  readonly keptAt?: string;
  /** Wraps the key-encryption key into a blob that may lie on the disk. */
  wrap(key: Uint8Array): Promise<Uint8Array>;
  /** Unwraps such a blob; fails with the provider's own codes, never with a wrong key. */
  unwrap(blob: Uint8Array): Promise<Uint8Array>;
}
