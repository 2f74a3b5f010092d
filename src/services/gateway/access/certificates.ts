/** Believes a client certificate: of an authority that the config names, and as whom that authority calls its holder. */
import { X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";
import type { Clock } from "../../../kernel/clock.ts";
import { CONFIG_VALUE_INVALID } from "../../../kernel/config.ts";
import { fail } from "../../../kernel/error.ts";
import { holderName } from "../../../kernel/identity/peer.ts";
import { GATEWAY_CERTIFICATE_INVALID } from "../access.api.ts";
import { counts, type Verdict, verdictOf } from "./verdicts.ts";

/** The name of this node's own authority in grants and in the names of holders. */
export const OWN_AUTHORITY = "node";
const PEM = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

export interface CertificatesOptions {
  readonly authorities: readonly { readonly name: string; readonly pem: string }[];
  readonly scopesOf: (authority: string, holder: string) => readonly string[];
  readonly clock: Clock;
}

interface Authority {
  readonly name: string;
  readonly certificate: X509Certificate;
}

export class Certificates {
  readonly #o: CertificatesOptions;
  readonly #authorities: readonly Authority[];
  /** Their certificates, for the handshake. */
  readonly pems: readonly string[];
  /** By connection: a certificate is looked at once. */
  #verdicts = new WeakMap<TLSSocket, Verdict>();

  /** CONFIG_VALUE_INVALID where an authority's file holds no certificate. */
  constructor(options: CertificatesOptions) {
    const { authorities } = options;
    this.#o = options;
    this.#authorities = authorities.flatMap(({ name, pem }) => {
      const found = pem.match(PEM) ?? [];
      if (found.length === 0)
        throw fail(CONFIG_VALUE_INVALID, `config: the 'caFile' of the authority '${name}' holds no certificate`);
      return found.map((each) => ({ name, certificate: readAuthority(name, each) }));
    });
    this.pems = authorities.map(({ pem }) => pem);
  }

  /** True where clients are asked for a certificate. */
  get asked(): boolean {
    return this.#authorities.length > 0;
  }

  /** Tells whom a connection's certificate names; undefined where it has none. GATEWAY_CERTIFICATE_INVALID. */
  of(socket: TLSSocket | undefined): Verdict | undefined {
    if (!this.asked || !socket) return undefined;
    const verdict = this.#verdicts.get(socket) ?? this.#read(socket);
    // An open connection is never verified again: its certificate ends all the same.
    if (verdict && !counts(verdict, this.#o.clock.wallMs())) throw refused("it is not valid at this time");
    return verdict;
  }

  /** What grants say has changed. */
  forget(): void {
    this.#verdicts = new WeakMap();
  }

  #read(socket: TLSSocket): Verdict | undefined {
    const certificate = socket.getPeerX509Certificate();
    if (!certificate) return undefined;
    if (!socket.authorized) throw refused(`it was not believed (${String(socket.authorizationError)})`);
    // All authorities share one handshake: which of them signed decides what the name in it means.
    const signer = this.#authorities.find(({ certificate: by }) => isSignedBy(certificate, by));
    if (!signer) throw refused("it is not signed by an authority that the config names");
    const holder = holderName(certificate.raw);
    if (holder === undefined) throw refused("it names nobody: one URI, else one DNS name, else one common name");
    const scopes = this.#o.scopesOf(signer.name, holder);
    const subject = { name: `${signer.name}/${holder}`, scopes };
    const verdict = verdictOf(`certificate ${certificate.fingerprint256}`, subject, {
      fromMs: certificate.validFromDate.getTime(),
      untilMs: certificate.validToDate.getTime(),
    });
    this.#verdicts.set(socket, verdict);
    return verdict;
  }
}

function readAuthority(name: string, pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw fail(CONFIG_VALUE_INVALID, `config: the 'caFile' of the authority '${name}' cannot be read`, { cause });
  }
}

const isSignedBy = (certificate: X509Certificate, by: X509Certificate): boolean =>
  certificate.checkIssued(by) && certificate.verify(by.publicKey);

const refused = (why: string) => fail(GATEWAY_CERTIFICATE_INVALID, `the client certificate is not valid: ${why}`);
