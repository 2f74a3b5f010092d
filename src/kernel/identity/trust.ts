/** Whom a node believes: its authorities, and which of their certificates are not to be believed any more. */
import type { TLSSocket } from "node:tls";
import { certificateName } from "./peer.ts";

/** One certificate by its serial number, or all of a service that end at `untilMs` or before. */
export interface Revocation {
  /** Lower-case hex. */
  readonly serial?: string;
  readonly service?: string;
  readonly untilMs?: number;
}

/** What identity tells everybody, over the supervisor's pipes, whenever it changes. */
export interface Trust {
  /** Certificates of authorities, PEM one after the other; the first is the one that issues now. */
  readonly caPem: string;
  readonly revoked: readonly Revocation[];
}

/** Divides a bundle into its certificates. */
export const certificatesIn = (bundle: string): string[] =>
  bundle.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\r?\n?/g) ?? [];

/** Answers whether a certificate was revoked. */
export class Revoked {
  #serials: ReadonlySet<string> = new Set();
  #services: ReadonlyMap<string, number> = new Map();

  set(all: readonly Revocation[]): void {
    this.#serials = new Set(all.flatMap(({ serial }) => serial ?? []));
    const services = new Map<string, number>();
    for (const { service, untilMs = 0 } of all)
      if (service !== undefined) services.set(service, Math.max(untilMs, services.get(service) ?? 0));
    this.#services = services;
  }

  /** By a certificate as DER, which somebody else verified. */
  has(raw: Buffer, serial: string): boolean {
    if (this.#serials.size === 0 && this.#services.size === 0) return false;
    if (this.#serials.has(serial.toLowerCase().replace(/^(00)+(?=..)/, ""))) return true;
    const name = certificateName(raw);
    return name !== undefined && name.notAfterMs <= (this.#services.get(name.service) ?? 0);
  }

  /** By an open connection's peer. */
  isPeer(socket: TLSSocket): boolean {
    if (this.#serials.size === 0 && this.#services.size === 0) return false;
    const peer = socket.getPeerX509Certificate?.();
    return peer !== undefined && this.has(peer.raw, peer.serialNumber);
  }
}
