/** Keys of programs: sent as `X-API-Key`, known by their hash alone. */
import { hash } from "node:crypto";
import { fail } from "../../../kernel/error.ts";
import type { ApiKey } from "../access.api.ts";
import { GATEWAY_TOKEN_INVALID } from "../api.ts";
import type { Verdict } from "./tokens.ts";

export const API_KEY_HEADER = "x-api-key";
/** Longer ones are nobody's. */
const KEY_LENGTH_MAX = 512;

export class ApiKeys {
  readonly #verdicts: ReadonlyMap<string, Verdict>;

  constructor(keys: readonly ApiKey[]) {
    this.#verdicts = new Map(
      keys.map(({ name, sha256, scopes }) => {
        const subject = { name, scopes };
        const header = Buffer.from(JSON.stringify(subject)).toString("base64url");
        const always = { fromMs: Number.NEGATIVE_INFINITY, untilMs: Number.POSITIVE_INFINITY };
        return [sha256, { subject, header, key: sha256, ...always }];
      }),
    );
  }

  get size(): number {
    return this.#verdicts.size;
  }

  /** Finds whose key it is; GATEWAY_TOKEN_INVALID. Looked up by hash, so that the time it takes tells nothing of it. */
  verify(key: string): Verdict {
    const verdict = key.length > KEY_LENGTH_MAX ? undefined : this.#verdicts.get(hash("sha256", key, "hex"));
    if (!verdict) throw fail(GATEWAY_TOKEN_INVALID, "the API key is not one of this door");
    return verdict;
  }
}
