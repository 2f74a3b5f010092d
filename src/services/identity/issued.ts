/** What was issued since the start, and what was revoked: the latter is kept over restarts, and told to everybody. */
import type { Clock } from "../../kernel/clock.ts";
import { fail } from "../../kernel/error.ts";
import type { Revocation } from "../../kernel/identity/trust.ts";
import { IDENTITY_REVOKE_UNKNOWN, IDENTITY_REVOKED_TOO_MANY } from "./certificates.api.ts";
import type { SealedFile } from "./sealed-file.ts";

export interface IssuedCertificate {
  readonly name: string;
  readonly instance: string;
  readonly serial: string;
  readonly issuedAtMs: number;
  readonly notAfterMs: number;
}

export interface KeptRevocation extends Revocation {
  readonly atMs: number;
}

/** Certificates in the list; above it the oldest are forgotten, and are still revoked by their service. */
const ISSUED_MAX = 4_096;
/** Everybody holds them all. */
export const REVOKED_MAX = 1_024;
const SERIAL = /^[0-9a-f]{16,40}$/;
const SERVICE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

export interface Issuing {
  readonly lifetimeMs: number;
  readonly clock: Clock;
  readonly file: SealedFile<KeptRevocation[]>;
}

export class Issued {
  readonly #o: Issuing;
  readonly #all = new Map<string, IssuedCertificate>();
  #revoked: readonly KeptRevocation[];

  private constructor(options: Issuing, revoked: readonly KeptRevocation[]) {
    this.#o = options;
    this.#revoked = revoked;
  }

  static async open(options: Issuing): Promise<Issued> {
    return new Issued(options, (await options.file.read()) ?? []);
  }

  get revoked(): readonly KeptRevocation[] {
    return this.#revoked;
  }

  /** Notes a certificate. */
  add(one: Omit<IssuedCertificate, "issuedAtMs">): void {
    this.#all.set(one.serial, { ...one, issuedAtMs: this.#o.clock.wallMs() });
    const [oldest] = this.#all.keys();
    if (this.#all.size > ISSUED_MAX && oldest !== undefined) this.#all.delete(oldest);
  }

  /** Lists what was issued and has not ended, newest first. */
  list(): (IssuedCertificate & { revoked: boolean })[] {
    const nowMs = this.#o.clock.wallMs();
    for (const [serial, { notAfterMs }] of this.#all) if (notAfterMs < nowMs) this.#all.delete(serial);
    return [...this.#all.values()].reverse().map((one) => ({ ...one, revoked: this.#isRevoked(one) }));
  }

  /** How long a new certificate of a service lives: longer than those of it that were revoked, which are told apart by their end. */
  lifetimeMsOf(service: string): number {
    const untilMs = Math.max(0, ...this.#revoked.flatMap((r) => (r.service === service ? [r.untilMs ?? 0] : [])));
    return Math.max(this.#o.lifetimeMs, untilMs - this.#o.clock.wallMs() + 2_000);
  }

  /** Revokes by a service's name or a serial number; answers what, and the instance where it is known. IDENTITY_REVOKE_UNKNOWN, IDENTITY_REVOKED_TOO_MANY. */
  async revoke(what: string): Promise<{ revocation: KeptRevocation; name?: string; instance?: string }> {
    const { clock, lifetimeMs } = this.#o;
    const atMs = clock.wallMs();
    const serial = what.toLowerCase().replaceAll(":", "");
    const known = this.#all.get(serial);
    if (known || SERIAL.test(serial)) {
      const revocation = { serial, atMs };
      await this.#keep(revocation);
      return { revocation, ...(known ? { name: known.name, instance: known.instance } : {}) };
    }
    if (!SERVICE.test(what)) throw fail(IDENTITY_REVOKE_UNKNOWN, `'${what}' is neither a service nor a serial number`);
    // Certificates end at whole seconds.
    const untilMs = Math.ceil((atMs + Math.max(lifetimeMs, this.lifetimeMsOf(what))) / 1000) * 1000;
    const revocation = { service: what, untilMs, atMs };
    await this.#keep(revocation);
    return { revocation, name: what };
  }

  async #keep(one: KeptRevocation): Promise<void> {
    const same = (other: KeptRevocation): boolean => other.serial === one.serial && other.service === one.service;
    const revoked = [...this.#revoked.filter((other) => !same(other)), one];
    if (revoked.length > REVOKED_MAX)
      throw fail(IDENTITY_REVOKED_TOO_MANY, `${REVOKED_MAX} certificates are revoked already`);
    await this.#o.file.write(revoked);
    this.#revoked = revoked;
  }

  #isRevoked({ serial, name, notAfterMs }: IssuedCertificate): boolean {
    return this.#revoked.some((r) => r.serial === serial || (r.service === name && notAfterMs <= (r.untilMs ?? 0)));
  }
}
