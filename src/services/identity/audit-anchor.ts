/**
 * Signs where the audit trail ends, and keeps the last such place in identity's own directory, under identity's own key and
 * uid: who cuts the end off the trail would have to own identity, too.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign } from "node:crypto";
import { fail } from "../../kernel/error.ts";
import { type Place, statementOf } from "../../kernel/identity/audit-statement.ts";
import { IDENTITY_AUDIT_BEHIND } from "./api.ts";
import type { SealedFile } from "./sealed-file.ts";

export interface AuditAnchorOptions {
  readonly node: string;
  readonly file: SealedFile<Place>;
  /** PKCS#8, DER. */
  readonly auditKey: Buffer;
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

  /** Opens it; one that is damaged cannot be had again: the trail is then held by its signatures alone. */
  static async open(options: AuditAnchorOptions): Promise<AuditAnchor> {
    return new AuditAnchor(options, (await options.file.read()) ?? { n: 0, hash: "" });
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
    const { node, file } = this.#o;
    const { n, hash } = this.#place;
    if (place.n < n || (place.n === n && place.hash !== hash))
      throw fail(
        IDENTITY_AUDIT_BEHIND,
        `line ${n} of the audit trail is signed already; line ${place.n} comes too late`,
      );
    if (place.n > n) await file.write(place);
    this.#place = place;
    return sign("sha256", Buffer.from(statementOf(node, place)), this.#key).toString("base64url");
  }
}
