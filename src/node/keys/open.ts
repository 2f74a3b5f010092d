/** How the node's keys are opened: by the provider that sealed them; the first start chooses one. */
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { Failure } from "../../kernel/error.ts";
import { keyFileProvider } from "../../kernel/seal/key-file.ts";
import { type KeyRing, openKeyRing } from "../../kernel/seal/keyring.ts";
import type { KeyProvider, ProviderName } from "../../kernel/seal/provider.ts";
import { sealedBy } from "../../kernel/seal/ring-file.ts";
import { keyFileOf, type NodeConfig } from "../config.ts";
import { ask, given, isNamed, PASSPHRASE, PIN } from "./inputs.ts";

export interface KeyOptions {
  readonly statePath: string;
  readonly node: Pick<NodeConfig, "keyFile" | "keys">;
  readonly env: NodeJS.ProcessEnv;
  readonly log: { warn(fields: object, message: string): void };
}

/** Where the key ring lies. */
export const ringDirectory = (statePath: string): string => join(statePath, "node");

/** Opens the node's key ring. NODE_PASSPHRASE_MISSING, NODE_PIN_MISSING, and the codes of the key ring and its providers. */
export async function openKeys(options: KeyOptions): Promise<KeyRing> {
  const { statePath, node, env, log } = options;
  const directory = ringDirectory(statePath);
  const open = async (name: ProviderName): Promise<KeyRing> =>
    openKeyRing({ directory, stateDirectory: statePath, provider: await providerOf(name, options), log });
  const sealed = sealedBy(directory);
  const name = chosen(node, env, sealed);
  if (sealed !== undefined || name !== "tpm" || node.keys.provider === "tpm") return open(name);
  try {
    return await open("tpm");
  } catch (error) {
    // A TPM that is there and does not work: nothing was sealed yet, and the node is to start.
    if (!(error instanceof Failure)) throw error;
    log.warn({ code: error.code }, `no TPM seals the keys, but a key file: ${error.message}`);
    return open("key-file");
  }
}

/** Tells which provider is to open the ring, or to seal it at the first start. */
export function chosen(
  node: KeyOptions["node"],
  env: NodeJS.ProcessEnv,
  sealed: ProviderName | undefined,
): ProviderName {
  if (node.keys.provider !== "auto") return node.keys.provider;
  // Who gives a passphrase believes that it protects: the ring says so where it does not.
  if (isNamed(PASSPHRASE, env)) return "passphrase";
  if (sealed !== undefined) return sealed;
  return node.keyFile === "" && isUsable(node.keys.tpm.device) ? "tpm" : "key-file";
}

function isUsable(device: string): boolean {
  try {
    accessSync(device, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    // None, or not this user's: as good as none.
    return false;
  }
}

/** Makes a provider; the code of those that few nodes have is loaded only for them. */
export async function providerOf(
  name: ProviderName,
  { node, env }: Pick<KeyOptions, "node" | "env">,
  passphrase?: string,
): Promise<KeyProvider> {
  const { tpm, pkcs11 } = node.keys;
  switch (name) {
    case "passphrase": {
      const { passphraseProvider } = await import("../../kernel/seal/passphrase.ts");
      const text = passphrase ?? given(PASSPHRASE, env)?.toString("utf8");
      return passphraseProvider({ passphrase: text ?? (await ask(PASSPHRASE.what, PASSPHRASE.missing)) });
    }
    case "tpm": {
      const { tpmProvider } = await import("../../kernel/seal/tpm/provider.ts");
      return tpmProvider({ path: tpm.device, pcrs: tpm.pcrs });
    }
    case "pkcs11": {
      const { pkcs11Provider } = await import("../../kernel/seal/pkcs11/provider.ts");
      const { loadKoffi } = await import("../confine/libc.ts");
      return pkcs11Provider({
        koffi: loadKoffi,
        ...pkcs11,
        pin: async () => given(PIN, env, pkcs11.pinFile) ?? Buffer.from(await ask(PIN.what, PIN.missing)),
      });
    }
    case "key-file":
      return keyFileProvider({ path: keyFileOf(node, env) });
    default:
      throw new TypeError(`there is no provider ${String(name satisfies never)}`);
  }
}
