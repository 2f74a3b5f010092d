/** The passphrase provider: argon2id makes a key of what a person knows. */
import { argon2, randomBytes } from "node:crypto";
import { Failure, fail } from "../error.ts";
import { KEY_BYTES, openBytes, sealBytes, SEAL_OVERHEAD_BYTES } from "./bytes.ts";
import {
  SEAL_BYTES_REFUSED,
  SEAL_KEYRING_DAMAGED,
  SEAL_PARAMETERS_INVALID,
  SEAL_PASSPHRASE_SHORT,
  SEAL_PASSPHRASE_WRONG,
} from "./codes.ts";
import type { KeyProvider } from "./provider.ts";

/** Below this no argon2 helps: a thief tries all of them. */
export const PASSPHRASE_CHARACTERS_MIN = 8;
/** 7 MiB is the least that OWASP lists; above 1 GiB an altered file could take the machine down. */
export const MEMORY_KIB = { min: 7168, max: 1_048_576 } as const;
/** 16 passes over 1 GiB take tens of seconds on a small board: the most that a start may be made to wait. */
export const PASSES = { min: 1, max: 16 } as const;
const LANES = 1;
const FORMAT = 1;
const SALT_BYTES = 16;
/** Format, memory (u32), passes, lanes, salt; then the sealed key, with this header as its associated data. */
const HEADER_BYTES = 1 + 4 + 1 + 1 + SALT_BYTES;

export interface PassphraseOptions {
  passphrase: string;
  /** Memory that one guess costs, in KiB; the default takes 0.34 s of one core once per start. */
  memoryKiB?: number;
  passes?: number;
}

/** Makes the provider for a passphrase; SEAL_PASSPHRASE_WRONG, SEAL_PASSPHRASE_SHORT (only when sealing), SEAL_PARAMETERS_INVALID. */
export function passphraseProvider(options: PassphraseOptions): KeyProvider {
  const { memoryKiB = 65_536, passes = 3 } = options;
  if (!within(memoryKiB, MEMORY_KIB) || !within(passes, PASSES)) {
    throw fail(
      SEAL_PARAMETERS_INVALID,
      `argon2id with ${memoryKiB} KiB and ${passes} passes is out of bounds: ${bounds}`,
    );
  }
  // NFKC, so that the same words typed on another keyboard are the same bytes.
  const passphrase = options.passphrase.normalize("NFKC");
  return {
    name: "passphrase",
    promise:
      "protects everything on the disk against whoever has the disk but not the passphrase; somebody must give it at every start",
    async wrap(key) {
      if (passphrase.length < PASSPHRASE_CHARACTERS_MIN) {
        throw fail(SEAL_PASSPHRASE_SHORT, `the passphrase has fewer than ${PASSPHRASE_CHARACTERS_MIN} characters`);
      }
      const header = Buffer.alloc(HEADER_BYTES);
      header[0] = FORMAT;
      header.writeUInt32BE(memoryKiB, 1);
      header[5] = passes;
      header[6] = LANES;
      randomBytes(SALT_BYTES).copy(header, 7);
      const derived = await derive(passphrase, header);
      const blob = Buffer.concat([header, sealBytes(derived, key, header.toString("hex"))]);
      derived.fill(0);
      return blob;
    },
    async unwrap(blob) {
      const header = checkedHeader(Buffer.from(blob));
      const derived = await derive(passphrase, header);
      try {
        return openBytes(derived, blob.subarray(HEADER_BYTES), header.toString("hex"));
      } catch (error) {
        if (!(error instanceof Failure) || error.code !== SEAL_BYTES_REFUSED.code) throw error;
        throw fail(SEAL_PASSPHRASE_WRONG, "the passphrase does not open this node's key ring", { cause: error });
      } finally {
        derived.fill(0);
      }
    },
  };
}

const within = (value: number, range: { min: number; max: number }): boolean =>
  Number.isInteger(value) && value >= range.min && value <= range.max;
const bounds = `${MEMORY_KIB.min} to ${MEMORY_KIB.max} KiB, ${PASSES.min} to ${PASSES.max} passes`;

/** The parameters come from the disk, so an altered file must not be able to ask for terabytes or for hours. */
function checkedHeader(blob: Buffer): Buffer {
  if (blob.length !== HEADER_BYTES + KEY_BYTES + SEAL_OVERHEAD_BYTES || blob[0] !== FORMAT || blob[6] !== LANES) {
    throw fail(
      SEAL_KEYRING_DAMAGED,
      `the key ring's passphrase part (${blob.length} bytes) is not of a form that this version knows`,
    );
  }
  const memoryKiB = blob.readUInt32BE(1);
  const passes = blob[5] ?? 0;
  if (!within(memoryKiB, MEMORY_KIB) || !within(passes, PASSES)) {
    throw fail(
      SEAL_KEYRING_DAMAGED,
      `the key ring asks for argon2id with ${memoryKiB} KiB and ${passes} passes, out of bounds: ${bounds}`,
    );
  }
  return blob.subarray(0, HEADER_BYTES);
}

const derive = (passphrase: string, header: Buffer): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    argon2(
      "argon2id",
      {
        message: passphrase,
        nonce: header.subarray(7),
        parallelism: LANES,
        tagLength: KEY_BYTES,
        memory: header.readUInt32BE(1),
        passes: header[5] ?? 0,
      },
      (error, key) => (error ? reject(error) : resolve(key)),
    );
  });
