/**
 * Signs where the audit trail ends, and keeps the last such place in identity's own directory, under identity's own key and
 * uid: who cuts the end off the trail would have to own identity, too.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "../../kernel/error.ts";
import { type Place, statementOf } from "../../kernel/identity/audit-statement.ts";
import type { Log } from "../../kernel/log.ts";
import { openBytes, sealBytes } from "../../kernel/seal/bytes.ts";
import { replaceFile } from "../../kernel/seal/durable-file.ts";
import { IDENTITY_AUDIT_BEHIND } from "./api.ts";

const FILE = "audit-anchor.sealed";
const PURPOSE = "holdfast audit anchor";

export interface AuditAnchorOptions {
  readonly node: string;
  readonly directory: string;
  /** 32 bytes. */
  readonly key: Buffer;
  /** PKCS#8, DER. */
  readonly auditKey: Buffer;
  readonly log: Log;
}

export class AuditAnchor {
  /** SPKI as PEM. */
  readonly publicKeyPem: string;
  readonly #o: AuditAnchorOptions;
  readonly #key: KeyObject;
  #place: Place;
  #writing: Promise<unknown> = Promise.resolve();

  private constructor(options: AuditAnchorOptions, place: Place) {
    this.#o = options;
    this.#place = place;
    this.#key = createPrivateKey({ key: options.auditKey, format: "der", type: "pkcs8" });
    this.publicKeyPem = createPublicKey(this.#key).export({ type: "spki", format: "pem" });
  }

  static async open(options: AuditAnchorOptions): Promise<AuditAnchor> {
    return new AuditAnchor(options, await readPlace(options));
  }

  /** What was signed last. */
  get place(): Place {
    return this.#place;
  }

  /** Signs a place; it is the anchor before the signature is given out. IDENTITY_AUDIT_BEHIND: it is before the anchor, or another line. */
  sign(place: Place): Promise<string> {
    const work = this.#writing.then(() => this.#sign(place));
    this.#writing = work.catch(() => undefined);
    return work;
  }

  async #sign(place: Place): Promise<string> {
    const { node, directory, key } = this.#o;
    const { n, hash } = this.#place;
    if (place.n < n || (place.n === n && place.hash !== hash))
      throw fail(
        IDENTITY_AUDIT_BEHIND,
        `line ${n} of the audit trail is signed already; line ${place.n} comes too late`,
      );
    if (place.n > n) {
      await replaceFile(join(directory, FILE), sealBytes(key, Buffer.from(JSON.stringify(place)), PURPOSE));
      this.#place = place;
    }
    return sign("sha256", Buffer.from(statementOf(node, place)), this.#key).toString("base64url");
  }
}

async function readPlace({ directory, key, log }: AuditAnchorOptions): Promise<Place> {
  const none = { n: 0, hash: "" };
  try {
    return JSON.parse(openBytes(key, await readFile(join(directory, FILE)), PURPOSE).toString()) as Place;
  } catch (error) {
    // At the first start there is none. One that is damaged cannot be had again: the trail is then held by its signatures alone.
    if ((error as NodeJS.ErrnoException).code !== "ENOENT")
      log.error({ err: error }, "what was signed last of the audit trail cannot be read");
    return none;
  }
}
