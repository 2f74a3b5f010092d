/**
 * A service's identity on the wire: TLS 1.3 both ways with our own authority's certificates, renewed while running.
 *
 * Validity and a wrong clock. OpenSSL judges certificates by the wall clock, and this is left so: to take expired ones would
 * make a stolen certificate live for ever. Instead nothing that a jump can spoil lasts: the authority is valid from 1970 to
 * 9999, and every holder of a certificate watches for jumps and renews at once (`keepRenewed`), over a way that needs no
 * valid certificate (the supervisor's pipe, or the join secret). In between, connections that are open go on.
 */
import { constants, createPrivateKey, X509Certificate } from "node:crypto";
import { EventEmitter } from "node:events";
import {
  type ConnectionOptions,
  createSecureContext,
  type PeerCertificate,
  type SecureContext,
  type SecureContextOptions,
  type Server,
  type TlsOptions,
  type TLSSocket,
} from "node:tls";
import { type Clock, systemClock } from "../clock.ts";
import { Failure, fail } from "../error.ts";
import { IdentityAgent } from "./agent.ts";
import { ConnectionAges } from "./ages.ts";
import {
  IDENTITY_CERTIFICATE_INVALID,
  IDENTITY_CERTIFICATE_REVOKED,
  IDENTITY_NOT_READY,
  IDENTITY_PEER_OTHER,
} from "./codes.ts";
import { certificateName, type PeerName } from "./peer.ts";
import { spiffeName } from "./names.ts";
import { certificatesIn, Revoked, type Trust } from "./trust.ts";

export interface Certificate {
  readonly certPem: string;
  readonly keyPem: string;
}

export interface TlsIdentityOptions {
  node: string;
  service: string;
  /** The authorities that peers are believed by. One identity trusts one domain: several only while an authority is replaced. */
  caPem: string | string[];
  clock?: Clock;
  /** After this age a connection is used for no further request; default one hour. */
  connectionAgeMsMax?: number;
}

/** Whom a client expects: a service of our own node, or of another one. */
export type Expected = string | { node: string; service: string };

const CONNECTION_AGE_MS_MAX = 3_600_000;

/** Holds a service's certificate and makes TLS settings of it. Emits "renewed" when `update` replaced the certificate, "trusted" when `trust` changed whom it believes. */
export class TlsIdentity extends EventEmitter<{ renewed: []; trusted: [] }> {
  readonly node: string;
  readonly service: string;
  #caPems: string[];
  readonly #revoked = new Revoked();
  /** Open connections to servers. */
  readonly #watched = new Set<TLSSocket>();
  readonly #clock: Clock;
  readonly #ageMsMax: number;
  readonly #agents = new Map<string, IdentityAgent>();
  #certificate: Certificate | undefined;
  #name: PeerName | undefined;
  #context: SecureContext | undefined;

  constructor(options: TlsIdentityOptions) {
    super();
    // One listener a server; a service with a dozen listening sockets leaks nothing.
    this.setMaxListeners(0);
    spiffeName(options.node, options.service);
    this.node = options.node;
    this.service = options.service;
    this.#caPems = [options.caPem].flat().flatMap(certificatesIn);
    this.#clock = options.clock ?? systemClock;
    this.#ageMsMax = options.connectionAgeMsMax ?? CONNECTION_AGE_MS_MAX;
  }

  /** The authorities that peers are believed by. */
  get authorities(): readonly string[] {
    return this.#caPems;
  }

  /** Whether the present certificate is as a new one would be: of the authority that issues now, and not revoked. */
  get isCurrent(): boolean {
    const cert = this.#certificate && new X509Certificate(this.#certificate.certPem);
    if (!cert || this.#revoked.has(cert.raw, cert.serialNumber)) return false;
    return cert.verify(new X509Certificate(this.#caPems[0]).publicKey);
  }

  /** Takes whom to believe from now on; connections with who is not believed any more are cut at once. */
  trust({ caPem, revoked }: Trust): void {
    const caPems = certificatesIn(caPem);
    this.#revoked.set(revoked);
    if (caPems.length > 0 && caPems.join("") !== this.#caPems.join("")) {
      this.#caPems = caPems;
      if (this.#certificate) this.#context = createSecureContext(this.#contextOptions(this.#certificate));
      if (this.#certificate) this.emit("renewed");
    }
    for (const socket of this.#watched) if (this.#revoked.isPeer(socket)) socket.destroy();
    this.emit("trusted");
  }

  /** Cuts an open connection to a server when that one's certificate is revoked. */
  watch(socket: TLSSocket): void {
    this.#watched.add(socket);
    socket.once("close", () => this.#watched.delete(socket));
  }

  /** Serial and end of the present certificate; undefined before the first. */
  get certificate(): PeerName | undefined {
    return this.#name;
  }

  /** Takes a (new) certificate with its key; IDENTITY_CERTIFICATE_INVALID when they are no pair or not ours, the old one then stays. */
  update(certificate: Certificate): void {
    try {
      const cert = new X509Certificate(certificate.certPem);
      const name = certificateName(cert.raw);
      if (name?.node !== this.node || name.service !== this.service) {
        throw fail(
          IDENTITY_CERTIFICATE_INVALID,
          `the certificate is not one of ${spiffeName(this.node, this.service)}`,
        );
      }
      // Asked here, since an empty key would make a context without one, which fails only at the first handshake.
      if (!cert.checkPrivateKey(createPrivateKey(certificate.keyPem)))
        throw fail(IDENTITY_CERTIFICATE_INVALID, `the key does not belong to the certificate of ${this.service}`);
      this.#context = createSecureContext(this.#contextOptions(certificate));
      this.#certificate = certificate;
      this.#name = name;
    } catch (cause) {
      if (cause instanceof Failure) throw cause;
      throw fail(IDENTITY_CERTIFICATE_INVALID, `the certificate of ${this.service} cannot be used with its key`, {
        cause,
      });
    }
    this.emit("renewed");
  }

  /**
   * Gives the settings of a server that takes only callers with a certificate of our authority; IDENTITY_NOT_READY. Call
   * `attach` too, both with the same further authorities: whose clients are taken besides, and told apart by who serves.
   */
  serverOptions(further: readonly string[] = []): TlsOptions {
    return { ...this.#contextOptions(this.#present(), further), requestCert: true, rejectUnauthorized: true };
  }

  /** Gives the settings of a client that talks to `expect` and nobody else; IDENTITY_NOT_READY. A failed check is IDENTITY_PEER_OTHER. */
  clientOptions(expect: Expected): ConnectionOptions {
    const wanted = typeof expect === "string" ? { node: this.node, service: expect } : expect;
    this.#present();
    return {
      // Made once a certificate, not once a connection: reading the PEMs costs as much as half a handshake.
      secureContext: this.#context,
      minVersion: "TLSv1.3",
      rejectUnauthorized: true,
      // Names are checked below, so none is sent in the clear.
      servername: "",
      // A resumed session would skip the check of the peer's name and of its validity.
      session: undefined,
      checkServerIdentity: (_host: string, peer: PeerCertificate) =>
        this.#revoked.has(peer.raw, peer.serialNumber) ? revokedOne(wanted) : refusal(wanted, peer.raw),
    };
  }

  /** Keeps a server's certificate the present one and its connections from growing old; returns how to stop that. */
  attach(server: Server, further: readonly string[] = []): () => void {
    const ages = new ConnectionAges(server, this.#clock, this.#ageMsMax, (socket) => this.#revoked.isPeer(socket));
    const cut = (): void => ages.cutRevoked();
    // All options again: without minVersion a renewed context would silently take TLS 1.2.
    const renew = (): void => server.setSecureContext(this.#contextOptions(this.#present(), further));
    const detach = (): void => {
      this.off("renewed", renew);
      this.off("trusted", cut);
      ages.stop();
    };
    this.on("renewed", renew);
    this.on("trusted", cut);
    server.once("close", detach);
    return detach;
  }

  /** Gives the keep-alive agent for `expect`, the same one each time. */
  agent(expect: Expected): IdentityAgent {
    const key = typeof expect === "string" ? spiffeName(this.node, expect) : spiffeName(expect.node, expect.service);
    const known = this.#agents.get(key);
    if (known) return known;
    const agent = new IdentityAgent(() => this.clientOptions(expect), {
      clock: this.#clock,
      ageMsMax: this.#ageMsMax,
      onConnection: (socket) => this.watch(socket),
    });
    this.#agents.set(key, agent);
    return agent;
  }

  /** Closes the idle and busy connections of all agents. */
  close(): void {
    for (const agent of this.#agents.values()) agent.destroy();
    this.#agents.clear();
  }

  #present(): Certificate {
    if (!this.#certificate) throw fail(IDENTITY_NOT_READY, `${this.service} has no certificate yet`);
    return this.#certificate;
  }

  #contextOptions({ certPem, keyPem }: Certificate, further: readonly string[] = []): SecureContextOptions {
    return {
      cert: certPem,
      key: keyPem,
      ca: [...this.#caPems, ...further],
      minVersion: "TLSv1.3",
      maxVersion: "TLSv1.3",
      // No tickets: a resumed session is accepted after its certificate expired. In TLS 1.3 this option makes them references
      // into a cache, which Node leaves empty, so that every connection is a full handshake with every check.
      secureOptions: constants.SSL_OP_NO_TICKET,
    };
  }
}

const revokedOne = ({ node, service }: { node: string; service: string }): Error =>
  fail(IDENTITY_CERTIFICATE_REVOKED, `the certificate of ${spiffeName(node, service)} was revoked`);

function refusal(wanted: { node: string; service: string }, raw: Buffer): Error | undefined {
  const peer = certificateName(raw);
  if (peer?.node === wanted.node && peer.service === wanted.service) return undefined;
  const who = peer ? spiffeName(peer.node, peer.service) : "somebody without a name of ours";
  return fail(IDENTITY_PEER_OTHER, `${spiffeName(wanted.node, wanted.service)} was expected, ${who} answered`);
}
