/**
 * The node's authorities. There is one, but while it is replaced: the next is believed by all before it issues (its holders'
 * certificates would be refused else), and the old one until the last certificate that it issued has ended. What is due is due
 * by the wall clock, over restarts; a clock that jumps brings it forward, and services follow over their supervisor's pipe.
 */
import { createHash, X509Certificate } from "node:crypto";
import type { Clock } from "../../kernel/clock.ts";
import { fail } from "../../kernel/error.ts";
import { type Authority, createAuthority, loadAuthority } from "../../kernel/identity/authority.ts";
import { IDENTITY_ROTATION_RUNNING } from "./certificates.api.ts";
import type { Kept } from "./store.ts";

export interface AuthoritiesOptions {
  readonly node: string;
  readonly clock: Clock;
  readonly lifetimeMs: number;
  readonly kept: Kept;
  save(kept: Kept): Promise<void>;
  /** Told when who issues, or who is believed, has changed. */
  changed(what: "next" | "current" | "dropped"): void;
}

/** However far away, what is due is looked for so often. */
const LOOK_MS_MAX = 60_000;
const NAME_LENGTH_MAX = 50;

export class Authorities {
  readonly #o: AuthoritiesOptions;
  #kept: Kept;
  #current: Authority;
  #timer: NodeJS.Timeout | undefined;

  private constructor(options: AuthoritiesOptions, current: Authority) {
    this.#o = options;
    this.#kept = options.kept;
    this.#current = current;
    this.#wait();
  }

  /** Loads the authority that issues now. */
  static async open(options: AuthoritiesOptions): Promise<Authorities> {
    const { kept, clock } = options;
    return new Authorities(options, await loadAuthority({ certPem: kept.caCertPem, keyPkcs8: kept.caKey, clock }));
  }

  /** Who issues. */
  get current(): Authority {
    return this.#current;
  }

  /** Who is believed, PEM one after the other, who issues first. */
  get bundlePem(): string {
    const { caCertPem, next, old } = this.#kept;
    return [caCertPem, ...(next ? [next.certPem] : []), ...old.map(({ certPem }) => certPem)].join("");
  }

  list(): { fingerprint: string; state: "next" | "current" | "old"; untilMs?: number }[] {
    const { next, old } = this.#kept;
    return [
      { fingerprint: this.#current.fingerprint, state: "current" },
      ...(next ? [{ fingerprint: fingerprintOf(next.certPem), state: "next" as const, untilMs: next.fromMs }] : []),
      ...old.map(({ certPem, untilMs }) => ({ fingerprint: fingerprintOf(certPem), state: "old" as const, untilMs })),
    ];
  }

  /** Makes the next authority, which issues after the overlap. IDENTITY_ROTATION_RUNNING. */
  async rotate(overlapMs: number): Promise<{ fingerprint: string; issuesFromMs: number }> {
    const { node, clock } = this.#o;
    if (this.#kept.next) throw fail(IDENTITY_ROTATION_RUNNING, "an authority was made before, and does not issue yet");
    const day = new Date(clock.wallMs()).toISOString().slice(0, 10);
    const made = await createAuthority({
      node,
      clock,
      subject: `Holdfast ${node.slice(0, NAME_LENGTH_MAX - 20)} ${day}`,
    });
    const issuesFromMs = clock.wallMs() + overlapMs;
    await this.#keep({
      ...this.#kept,
      next: { certPem: made.certPem, key: await made.exportKey(), fromMs: issuesFromMs },
    });
    this.#o.changed("next");
    await this.moveOn();
    return { fingerprint: made.fingerprint, issuesFromMs };
  }

  /** Does what is due: the next authority takes over, an old one is dropped. */
  async moveOn(): Promise<void> {
    const { clock, lifetimeMs } = this.#o;
    const nowMs = clock.wallMs();
    const { next, old } = this.#kept;
    if (next && next.fromMs <= nowMs) {
      const before = { certPem: this.#kept.caCertPem, untilMs: nowMs + 2 * lifetimeMs };
      const { next: _, ...rest } = this.#kept;
      await this.#keep({ ...rest, caCertPem: next.certPem, caKey: next.key, old: [before, ...old] });
      this.#current = await loadAuthority({ certPem: next.certPem, keyPkcs8: next.key, clock });
      this.#o.changed("current");
    }
    const left = this.#kept.old.filter(({ untilMs }) => untilMs > nowMs);
    if (left.length < this.#kept.old.length) {
      await this.#keep({ ...this.#kept, old: left });
      this.#o.changed("dropped");
    }
    this.#wait();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  async #keep(kept: Kept): Promise<void> {
    await this.#o.save(kept);
    this.#kept = kept;
  }

  #wait(): void {
    clearTimeout(this.#timer);
    const { next, old } = this.#kept;
    const due = [...(next ? [next.fromMs] : []), ...old.map(({ untilMs }) => untilMs)];
    if (due.length === 0) return;
    const waitMs = Math.min(LOOK_MS_MAX, Math.max(1, Math.min(...due) - this.#o.clock.wallMs()));
    // What could not be kept is tried again.
    this.#timer = setTimeout(() => void this.moveOn().catch(() => this.#wait()), waitMs).unref();
  }
}

const fingerprintOf = (certPem: string): string =>
  createHash("sha256").update(new X509Certificate(certPem).raw).digest("hex");
