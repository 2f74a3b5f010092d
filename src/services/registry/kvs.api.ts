/** EdgeX's key-value store, where its services keep their configuration (core-keeper.yaml, kvs). */
import { type Static, Type } from "typebox";
import { del, get, put } from "../../kernel/contract.ts";
import {
  REGISTRY_FULL,
  REGISTRY_KEY_HAS_KEYS,
  REGISTRY_KEY_INVALID,
  REGISTRY_KEY_UNKNOWN,
  REGISTRY_VALUE_INVALID,
} from "./codes.ts";

/** Percent-encoded in the path as one segment; decoded once. */
const Key = Type.String({ minLength: 1, maxLength: 2048 });
const Flag = Type.Boolean({ default: false });

/** `Created` and `Modified` are capitalised on EdgeX's wire (FACTS: config). */
export const KeyValue = Type.Object({
  key: Type.String(),
  Created: Type.Integer(),
  Modified: Type.Integer(),
  value: Type.String(),
});
export type KeyValue = Static<typeof KeyValue>;

const Keys = Type.Object({ response: Type.Array(Type.String()) });

export const keyOperations = {
  values: get("/api/v3/kvs/key/:key", {
    summary: "Reads a key, or all keys below it; values in base64 unless `plaintext`, none with `keyOnly`.",
    input: { key: Key, keyOnly: Flag, plaintext: Flag },
    output: Type.Object({ response: Type.Union([Type.Array(Type.String()), Type.Array(KeyValue)]) }),
    errors: [REGISTRY_KEY_INVALID, REGISTRY_KEY_UNKNOWN],
    callers: ["*"],
    public: { scope: "node:read" },
  }),
  setValues: put("/api/v3/kvs/key/:key", {
    summary: "Writes a key, with `flatten` one key for each leaf of the value, and tells of it on the bus.",
    input: {
      key: Key,
      flatten: Flag,
      body: Type.Object({
        apiVersion: Type.Optional(Type.String({ maxLength: 16 })),
        requestId: Type.Optional(Type.String({ maxLength: 64 })),
        value: Type.Unknown(),
      }),
    },
    output: Keys,
    errors: [REGISTRY_KEY_INVALID, REGISTRY_VALUE_INVALID, REGISTRY_FULL],
    callers: [],
    public: { scope: "node:write", retry: "safe" },
  }),
  removeValues: del("/api/v3/kvs/key/:key", {
    summary: "Removes a key, with `prefixMatch` all keys that begin with it.",
    input: { key: Key, prefixMatch: Flag },
    output: Keys,
    errors: [REGISTRY_KEY_INVALID, REGISTRY_KEY_UNKNOWN, REGISTRY_KEY_HAS_KEYS],
    callers: [],
    public: { scope: "node:write" },
  }),
};
