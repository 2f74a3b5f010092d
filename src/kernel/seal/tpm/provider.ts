/** The TPM provider: the key opens on this machine alone, and only while it starts as it did when the key was sealed. */
import { Failure, fail } from "../../error.ts";
import { SEAL_KEYRING_DAMAGED, SEAL_TPM_OTHER, SEAL_TPM_PCR_CHANGED, SEAL_TPM_REFUSED } from "../codes.ts";
import { type KeyProvider, PCR_MAX } from "../provider.ts";
import type { Session } from "./session.ts";
import { type SealedObject, type StorageKey, Tpm, TpmError } from "./tpm.ts";
import { openTransport } from "./transport.ts";

/** The kernel's own resource manager lets several programs share the TPM. */
export const TPM_DEVICE = "/dev/tpmrm0";
/** PCR 7 is what firmware and Secure Boot measure of who may start this machine. */
export const PCRS_DEFAULT: readonly number[] = [7];
const FORMAT = 1;

export interface TpmOptions {
  /** The device, or the Unix socket of a software TPM. */
  readonly path?: string;
  /** PCRs of the SHA-256 bank that must be as they are now; none: this TPM alone is asked for. */
  readonly pcrs?: readonly number[];
}

interface Blob {
  readonly format: number;
  /** Value of each PCR when it was sealed: no secrets, and they tell later which one has changed. */
  readonly pcrs: Readonly<Record<string, string>>;
  readonly storageKey: string;
  readonly publicPart: string;
  readonly privatePart: string;
}

/** Makes the provider; SEAL_TPM_MISSING, SEAL_TPM_OTHER, SEAL_TPM_PCR_CHANGED, SEAL_TPM_REFUSED. */
export function tpmProvider({ path = TPM_DEVICE, pcrs = PCRS_DEFAULT }: TpmOptions = {}): KeyProvider {
  return {
    name: "tpm",
    promise:
      "protects everything on the disk against whoever has the disk without this machine, and against another system started on it; an update of the firmware needs 'holdfast keys reseal'",
    wrap: (key) =>
      withTpm(path, async (tpm, storage, session) => {
        const values = await tpm.pcrValues(pcrs);
        const sealed = await tpm.seal(storage, session, key, await tpm.pcrPolicy(pcrs));
        return encode(storage, values, sealed);
      }),
    unwrap: (blob) =>
      withTpm(path, async (tpm, storage, session) => {
        const { values, name, sealed } = decode(blob);
        if (!name.equals(storage.name))
          throw fail(SEAL_TPM_OTHER, `the TPM ${path} is not the one that this node's key ring was sealed with`);
        const bound = [...values.keys()];
        const changed = async (): Promise<string> => {
          const now = await tpm.pcrValues(bound);
          return bound.filter((pcr) => now.get(pcr) !== values.get(pcr)).join(", ");
        };
        const policy = await tpm.session(storage, "policy");
        try {
          await tpm.policyPcr(policy.handle, bound);
          return await tpm.unseal(storage, session, policy, sealed);
        } catch (error) {
          if (!(error instanceof TpmError) || !error.isPolicy) throw error;
          throw fail(
            SEAL_TPM_PCR_CHANGED,
            `the TPM ${path} does not open the key ring: this machine has not started as it did when the ring was sealed (PCR ${await changed()})`,
            { cause: error },
          );
        } finally {
          policy.zero();
          await tpm.flush(policy.handle);
        }
      }),
  };
}

/** Runs work with a storage key and a session; gives both back, so that a TPM without a resource manager does not fill up. */
async function withTpm<T>(
  path: string,
  work: (tpm: Tpm, storage: StorageKey, session: Session) => Promise<T>,
): Promise<T> {
  const tpm = new Tpm(await openTransport(path));
  try {
    const storage = await tpm.storageKey();
    try {
      const session = await tpm.session(storage, "hmac");
      try {
        return await work(tpm, storage, session);
      } finally {
        session.zero();
        await tpm.flush(session.handle);
      }
    } finally {
      await tpm.flush(storage.handle);
    }
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw fail(
      SEAL_TPM_REFUSED,
      `the TPM ${path} refused (${error instanceof Error ? error.message : String(error)})`,
      {
        cause: error,
      },
    );
  } finally {
    await tpm.close();
  }
}

function encode({ name }: { name: Buffer }, values: ReadonlyMap<number, string>, sealed: SealedObject): Buffer {
  const blob: Blob = {
    format: FORMAT,
    pcrs: Object.fromEntries(values),
    storageKey: name.toString("base64"),
    publicPart: sealed.publicPart.toString("base64"),
    privatePart: sealed.privatePart.toString("base64"),
  };
  return Buffer.from(JSON.stringify(blob));
}

function decode(bytes: Uint8Array): { values: Map<number, string>; name: Buffer; sealed: SealedObject } {
  try {
    const blob = JSON.parse(Buffer.from(bytes).toString("utf8")) as Blob;
    const values = new Map(Object.entries(blob.pcrs).map(([pcr, value]) => [Number(pcr), value]));
    if (blob.format !== FORMAT || [...values.keys()].some((pcr) => !Number.isInteger(pcr) || pcr < 0 || pcr > PCR_MAX))
      throw new TypeError(`format ${blob.format} with PCR ${[...values.keys()].join(", ")}`);
    const [name, publicPart, privatePart] = [blob.storageKey, blob.publicPart, blob.privatePart].map((text) =>
      Buffer.from(text, "base64"),
    );
    if (!name || !publicPart || !privatePart) throw new TypeError("a part is missing");
    const sealed = { publicPart, privatePart };
    // One way to write it: else an altered letter that means nothing would pass unseen.
    if (!encode({ name }, values, sealed).equals(bytes)) throw new TypeError("it was altered");
    return { values, name, sealed };
  } catch (cause) {
    throw fail(SEAL_KEYRING_DAMAGED, "the key ring's TPM part is not of a form that this version knows", { cause });
  }
}
