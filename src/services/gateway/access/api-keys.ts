/** Keys of programs: sent as `X-API-Key`, known by their hash alone. */
import { hash } from "node:crypto";
import { fail } from "../../../kernel/error.ts";
import type { ApiKey } from "../access.api.ts";
import { GATEWAY_TOKEN_INVALID } from "../api.ts";
import type { RightsOf } from "./grants.ts";
import { type Verdict, verdictOf } from "./verdicts.ts";

export const API_KEY_HEADER = "x-api-key";
/** Longer ones are nobody's. */
const KEY_LENGTH_MAX = 512;

export class ApiKeys {
  #verdicts: ReadonlyMap<string, Verdict> = new Map();

  /** Takes the keys of a routes file that was checked. */
  load(keys: readonly ApiKey[], rightsOf: RightsOf): void {
    this.#verdicts = new Map(
      keys.map((key) => [key.sha256, verdictOf(key.sha256, { name: key.name, scopes: rightsOf(key) })]),
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
