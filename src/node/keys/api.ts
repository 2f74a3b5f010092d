/** The part of the supervisor's contract that is about keys and secrets. */
import { Type } from "typebox";
import { contract, get, post, type Service } from "../../kernel/contract.ts";
import { STORES_MAX } from "../../kernel/seal/keyring.ts";
import { VALUE_BYTES_MAX } from "./secrets.ts";

const Provider = Type.Union([
  Type.Literal("tpm"),
  Type.Literal("pkcs11"),
  Type.Literal("passphrase"),
  Type.Literal("key-file"),
]);
const Sealed = Type.Object({ name: Provider, promise: Type.String() });
const Passphrase = Type.Optional(Type.String({ maxLength: 4096 }));
const SecretName = Type.String({ minLength: 1, maxLength: 63 });
const callers = ["cli"];
const Nothing = Type.Object({});
/** A token that takes a second, a service that is busy. */
const timeoutMs = 60_000;

export const keysOperations = {
  keys: get("/keys", {
    quiet: true,
    summary: "Tells what seals the keys, and of each store how many there are and how old the newest is.",
    input: {},
    output: Type.Object({
      provider: Provider,
      promise: Type.String(),
      kekAtMs: Type.Integer(),
      stores: Type.Array(Type.Object({ name: Type.String(), keys: Type.Integer(), newestAtMs: Type.Integer() }), {
        maxItems: STORES_MAX,
      }),
      escrow: Type.Optional(Type.String()),
    }),
    callers,
  }),
  rotateKeys: post("/keys/rotate", {
    summary: "Makes a new key-encryption key and new data keys of the services; what they wait for it is told in ms.",
    input: { body: Type.Object({ store: Type.Optional(Type.String({ maxLength: 128 })) }) },
    output: Type.Object({
      rotated: Type.Array(
        Type.Object({ store: Type.String(), pauseMs: Type.Number(), error: Type.Optional(Type.String()) }),
      ),
    }),
    callers,
    timeoutMs,
  }),
  migrateKeys: post("/keys/migrate", {
    summary: "Has the keys sealed by another provider.",
    input: { body: Type.Object({ provider: Provider, passphrase: Passphrase }) },
    output: Sealed,
    callers,
    timeoutMs,
  }),
  resealKeys: post("/keys/reseal", {
    summary: "Seals the keys anew, to the TPM's registers as they are now or, before an update, to the TPM alone.",
    input: { body: Type.Object({ open: Type.Boolean(), passphrase: Passphrase }) },
    output: Sealed,
    callers,
    timeoutMs,
  }),
  escrowKeys: post("/keys/escrow", {
    summary: "Seals the keys for the owner of an X25519 key too; without one, for nobody any more.",
    input: { body: Type.Object({ publicKey: Type.Optional(Type.String({ maxLength: 200 })) }) },
    output: Type.Object({ escrow: Type.Optional(Type.String()) }),
    callers,
  }),
  forgetDevice: post("/forget-device", {
    summary: "Makes all that the node holds of a device's events unreadable.",
    input: { body: Type.Object({ device: Type.String({ minLength: 1, maxLength: 1024 }) }) },
    output: Type.Object({ ms: Type.Number() }),
    callers,
    timeoutMs,
  }),
  secrets: get("/secrets", {
    quiet: true,
    summary: "Lists the names of the secrets.",
    input: {},
    output: Type.Object({ names: Type.Array(Type.String()) }),
    callers,
  }),
  setSecret: post("/secrets/set", {
    summary: "Keeps a secret for the services that name it.",
    input: { body: Type.Object({ name: SecretName, value: Type.String({ maxLength: VALUE_BYTES_MAX }) }) },
    output: Nothing,
    callers,
  }),
  removeSecret: post("/secrets/remove", {
    summary: "Removes a secret.",
    input: { body: Type.Object({ name: SecretName }) },
    output: Nothing,
    callers,
  }),
} as const;

const keys = contract("node", keysOperations);
export type KeysOperations = Service<typeof keys>;
