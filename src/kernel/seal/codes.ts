import { code } from "../error.ts";

export const SEAL_PASSPHRASE_WRONG = code(
  "SEAL_PASSPHRASE_WRONG",
  "unauthorized",
  "Give the passphrase that this node was set up with; there is no way around it.",
);
export const SEAL_PASSPHRASE_SHORT = code(
  "SEAL_PASSPHRASE_SHORT",
  "invalid",
  "Choose a longer passphrase; several unrelated words are a good one.",
);
export const SEAL_PARAMETERS_INVALID = code(
  "SEAL_PARAMETERS_INVALID",
  "invalid",
  "Choose argon2id parameters within the bounds that the message names.",
);
export const SEAL_KEY_FILE_MISSING = code(
  "SEAL_KEY_FILE_MISSING",
  "unavailable",
  "Put the key file back from your copy (or mount the medium it is on) and start again.",
);
export const SEAL_KEY_FILE_WRONG = code(
  "SEAL_KEY_FILE_WRONG",
  "unauthorized",
  "Put back the key file that this node was set up with.",
);
export const SEAL_KEY_FILE_DAMAGED = code(
  "SEAL_KEY_FILE_DAMAGED",
  "internal",
  "Put the key file back from your copy and start again.",
);
export const SEAL_KEY_FILE_UNWRITABLE = code(
  "SEAL_KEY_FILE_UNWRITABLE",
  "full",
  "Choose a place for the key file that the node's user may write to.",
);
export const SEAL_KEY_FILE_PERMISSIONS = code(
  "SEAL_KEY_FILE_PERMISSIONS",
  "forbidden",
  "Run the command that the message names and start again.",
);
export const SEAL_KEY_FILE_INSIDE_STATE = code(
  "SEAL_KEY_FILE_INSIDE_STATE",
  "invalid",
  "Choose a place for the key file outside the state directory, best on another medium.",
);
export const SEAL_TPM_MISSING = code(
  "SEAL_TPM_MISSING",
  "unavailable",
  "Switch the TPM on in the firmware, or let the node's user open it (group 'tss'); an escrow key opens the ring without it.",
);
export const SEAL_TPM_OTHER = code(
  "SEAL_TPM_OTHER",
  "unauthorized",
  "Put the disk back into its own machine, or open the key ring with its escrow key: 'holdfast keys reseal --escrow-key FILE'.",
);
export const SEAL_TPM_PCR_CHANGED = code(
  "SEAL_TPM_PCR_CHANGED",
  "unauthorized",
  "If you changed firmware or Secure Boot, open the key ring with its escrow key: 'holdfast keys reseal --escrow-key FILE'.",
);
export const SEAL_TPM_REFUSED = code(
  "SEAL_TPM_REFUSED",
  "unavailable",
  "Look at the TPM's code in the message ('tpm2_rc_decode' tells what it means), and try again.",
);
export const SEAL_PKCS11_UNUSABLE = code(
  "SEAL_PKCS11_UNUSABLE",
  "unavailable",
  "Name the PKCS#11 module of your token with node.keys.pkcs11.module, built for this machine.",
);
export const SEAL_PKCS11_TOKEN_MISSING = code(
  "SEAL_PKCS11_TOKEN_MISSING",
  "unavailable",
  "Plug the token in, or name the right one with node.keys.pkcs11.tokenLabel.",
);
export const SEAL_PKCS11_PIN_REFUSED = code(
  "SEAL_PKCS11_PIN_REFUSED",
  "unauthorized",
  "Give the token's user PIN; after a few wrong ones most tokens lock themselves.",
);
export const SEAL_PKCS11_KEY_MISSING = code(
  "SEAL_PKCS11_KEY_MISSING",
  "unauthorized",
  "Plug in the token that the key ring was sealed with, or name the key with node.keys.pkcs11.keyLabel.",
);
export const SEAL_PKCS11_KEY_WRONG = code(
  "SEAL_PKCS11_KEY_WRONG",
  "unauthorized",
  "Plug in the token that the key ring was sealed with; another key has the same name on this one.",
);
export const SEAL_PKCS11_REFUSED = code(
  "SEAL_PKCS11_REFUSED",
  "unavailable",
  "Look up the code that the message names in the token's manual (CKR_...), and try again.",
);
export const SEAL_PROVIDER_OTHER = code(
  "SEAL_PROVIDER_OTHER",
  "invalid",
  "Start with the way of sealing that the message names ('node.keys.provider'), and change it with 'holdfast keys migrate'.",
);
export const SEAL_KEYRING_DAMAGED = code(
  "SEAL_KEYRING_DAMAGED",
  "internal",
  "Put keyring.json back from a backup of the state directory; without it the data cannot be read by anybody.",
);
export const SEAL_KEYRING_NEWER = code(
  "SEAL_KEYRING_NEWER",
  "conflict",
  "Start the newer version of Holdfast that wrote this state directory.",
);
export const SEAL_KEYRING_UNREADABLE = code(
  "SEAL_KEYRING_UNREADABLE",
  "forbidden",
  "Let the node's user read and write the state directory.",
);
export const SEAL_KEYRING_UNWRITABLE = code(
  "SEAL_KEYRING_UNWRITABLE",
  "full",
  "Free some space, or let the node's user write to the state directory.",
);
export const SEAL_KEYRING_ZEROED = code(
  "SEAL_KEYRING_ZEROED",
  "unavailable",
  "Open the key ring again; this one was emptied when the node stopped.",
);
export const SEAL_STORE_NAME_INVALID = code(
  "SEAL_STORE_NAME_INVALID",
  "invalid",
  "Use lower-case letters, digits, '.', '-' and '/' for the name of a store.",
);
export const SEAL_STORES_TOO_MANY = code(
  "SEAL_STORES_TOO_MANY",
  "limited",
  "Forget the stores that are no longer used.",
);
export const SEAL_STORE_KEYS_TOO_MANY = code(
  "SEAL_STORE_KEYS_TOO_MANY",
  "limited",
  "Rotate the store's key less often; a backup restored into a fresh state directory begins with one key again.",
);
export const SEAL_ESCROW_MISSING = code(
  "SEAL_ESCROW_MISSING",
  "conflict",
  "Make an escrow key while the node runs: 'holdfast keys escrow --new FILE'.",
);
export const SEAL_ESCROW_KEY_INVALID = code(
  "SEAL_ESCROW_KEY_INVALID",
  "invalid",
  "Give an X25519 key in PEM, as 'holdfast keys escrow --new FILE' makes it.",
);
export const SEAL_ESCROW_KEY_WRONG = code(
  "SEAL_ESCROW_KEY_WRONG",
  "unauthorized",
  "Give the private half of the escrow key whose fingerprint 'holdfast keys status' shows.",
);
export const SEAL_BYTES_REFUSED = code(
  "SEAL_BYTES_REFUSED",
  "internal",
  "The sealed bytes were altered, belong elsewhere or were sealed with another key: restore them from a backup.",
);
