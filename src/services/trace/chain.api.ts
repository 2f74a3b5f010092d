/**
 * The chain of the audit trail. A line is a JSON text that has its number and the hash of the line before; checkpoints are
 * lines, too, in which identity signed number and hash of the line before them. Who changes, takes out, puts in or exchanges a
 * line breaks the chain or, where he computes it anew, no longer has the signatures; who cuts off its end is found by the
 * number that identity signed last, which it keeps in its own directory (the anchor).
 */
import { createHash, createPublicKey, type KeyObject, verify } from "node:crypto";
import { type Place, statementOf } from "../../kernel/identity/audit-statement.ts";

/** What a line says; more than one entry needs is in no line. */
export interface AuditLine {
  readonly n: number;
  /** SHA-256 of the line before, hex; zeros before the first. */
  readonly previous: string;
  /** ISO 8601. */
  readonly time: string;
  readonly service: string;
  readonly action: string;
  readonly outcome: "done" | "denied";
  readonly who: string;
  readonly what: string;
  readonly requestId?: string;
  readonly note?: string;
  readonly count?: number;
  /** Of a checkpoint: ECDSA P-256 with SHA-256 over `statementOf`, base64url. */
  readonly signature?: string;
  /** Of the line that says what retention took away: the first line that is left, and the hash before it. */
  readonly first?: number;
  readonly before?: string;
}

export const CHECKPOINT = "audit.checkpoint";
export const RETAINED = "audit.retained";
/** Written by the trail itself where it found that its end was not the one that identity had signed. */
export const BROKEN = "audit.broken";
export const BEGIN: Place = { n: 0, hash: "0".repeat(64) };

/** Computes a line's hash. */
export const hashOf = (text: string): string => createHash("sha256").update(text).digest("hex");

export interface VerifyOptions {
  readonly node: string;
  /** Public keys of identity for checkpoints, SPKI as PEM: the present one and those before. */
  readonly keys: readonly string[];
  /** What identity signed last; undefined where it is not known (an export by itself). */
  readonly anchor?: Place | undefined;
}

/** What there is to say of a trail. */
export interface Verdict {
  readonly lines: number;
  readonly first: number;
  readonly last: number;
  readonly checkpoints: number;
  /** Lines after the last checkpoint, which the chain alone holds. */
  readonly unsigned: number;
  /** What is wrong, at most FINDINGS_MAX of it. */
  readonly findings: readonly string[];
}

/** After so many no further ones are said. */
export const FINDINGS_MAX = 100;

/** Goes along a trail line by line. */
export class Verifier {
  readonly #options: VerifyOptions;
  readonly #keys: readonly KeyObject[];
  readonly #findings: string[] = [];
  #lines = 0;
  #first: (Place & { readonly retained: boolean }) | undefined;
  #last: Place = BEGIN;
  #checkpoints = 0;
  #signedN = 0;
  #isAnchored = false;
  /** What the trail itself says that it begins with. */
  #base: Place = BEGIN;

  constructor(options: VerifyOptions) {
    this.#options = options;
    this.#keys = options.keys.map((pem) => createPublicKey(pem));
  }

  /** Takes the next line. */
  take(text: string): void {
    const line = readLine(text);
    if (!line) return this.found(`a line after line ${this.#last.n} is not one of a trail`);
    const { anchor } = this.#options;
    if (this.#lines === 0) this.#first = { n: line.n - 1, hash: line.previous, retained: line.n !== 1 };
    else if (line.n !== this.#last.n + 1) this.found(`line ${line.n} follows line ${this.#last.n}`);
    else if (line.previous !== this.#last.hash) this.found(`line ${line.n} does not follow from the line before it`);
    const before: Place = { n: line.n - 1, hash: line.previous };
    this.#lines++;
    if (line.service === "trace") this.#ofTheTrail(line, before);
    this.#last = { n: line.n, hash: hashOf(text) };
    if (anchor?.n === line.n && anchor.hash !== this.#last.hash)
      this.found(`line ${line.n} is not the one that identity signed`);
  }

  /** Notes what is wrong. */
  found(what: string): void {
    if (this.#findings.length < FINDINGS_MAX) this.#findings.push(what);
  }

  /** Ends, and says what was found. */
  end(): Verdict {
    const { anchor } = this.#options;
    const first = this.#first ?? BEGIN;
    if (first.n > this.#base.n || (first.n === this.#base.n && first.hash !== this.#base.hash))
      this.found(`the trail begins with line ${first.n + 1}; it should begin with line ${this.#base.n + 1}`);
    if (anchor && anchor.n > this.#last.n)
      this.found(`the trail ends with line ${this.#last.n}; identity signed line ${anchor.n}`);
    else if (anchor && anchor.n > 0 && !this.#isAnchored)
      this.found(`the checkpoint of line ${anchor.n}, which identity signed last, is missing`);
    return {
      lines: this.#lines,
      first: this.#lines === 0 ? 0 : first.n + 1,
      last: this.#last.n,
      checkpoints: this.#checkpoints,
      unsigned: this.#last.n - this.#signedN,
      findings: this.#findings,
    };
  }

  #ofTheTrail(line: AuditLine, before: Place): void {
    if (line.action === BROKEN) this.found(`line ${line.n} says: ${line.what}`);
    if (line.action === RETAINED && line.first !== undefined && line.before !== undefined)
      this.#base = { n: line.first - 1, hash: line.before };
    if (line.action !== CHECKPOINT) return;
    this.#checkpoints++;
    const { node, anchor } = this.#options;
    if (!this.#keys.some((key) => isSigned(statementOf(node, before), line.signature ?? "", key)))
      return this.found(`the checkpoint in line ${line.n} is not signed by identity`);
    this.#signedN = line.n;
    if (anchor && before.n === anchor.n && before.hash === anchor.hash) this.#isAnchored = true;
  }
}

const isSigned = (statement: string, signature: string, key: KeyObject): boolean =>
  verify("sha256", Buffer.from(statement), key, Buffer.from(signature, "base64url"));

/** Reads a line; undefined where it is none. */
export function readLine(text: string): AuditLine | undefined {
  try {
    const line = JSON.parse(text) as AuditLine | null;
    return Number.isSafeInteger(line?.n) && typeof line?.previous === "string" ? line : undefined;
  } catch {
    // Not JSON: no line.
    return undefined;
  }
}
