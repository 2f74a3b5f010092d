/** A process gets its certificate: its own key, a request, the one-time secret of its supervisor, and again before it ends. */
import { Agent } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { makeCall } from "../kernel/call.ts";
import type { Clock } from "../kernel/clock.ts";
import { connect, type Target } from "../kernel/connect.ts";
import { asFailure, type Failure, fail } from "../kernel/error.ts";
import { IDENTITY_PEER_OTHER } from "../kernel/identity/codes.ts";
import { spiffeName } from "../kernel/identity/names.ts";
import { certificateName } from "../kernel/identity/peer.ts";
import { keepRenewed } from "../kernel/identity/renewal.ts";
import { makeKeyAndRequest } from "../kernel/identity/request.ts";
import { type Certificate, TlsIdentity } from "../kernel/identity/tls.ts";
import type { Log } from "../kernel/log.ts";
import { type Identity, identity as identityContract } from "../services/identity/api.ts";
import type { Address } from "./hello.ts";

export interface JoinOptions {
  readonly node: string;
  readonly service: string;
  readonly instance: string;
  readonly caPem: string;
  /** Over a wire: where identity is. In one process: identity itself. */
  readonly identity: Address | Identity;
  /** The supervisor's first secret, for the first try; each further try needs a new one. */
  readonly secret?: string;
  newSecret(): Promise<string>;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
}

const JOIN_TIMEOUT_MS = 10_000;
const RETRY_MS = 200;
const RETRY_MS_MAX = 5_000;

/** Joins the node's authority, trying until `signal` aborts, and keeps the certificate young from then on. */
export async function join(options: JoinOptions): Promise<TlsIdentity> {
  const { node, service, caPem, clock, log, signal } = options;
  const tls = new TlsIdentity({ node, service, caPem, clock });
  let secret = options.secret;
  for (let failures = 0; ; failures++) {
    try {
      tls.update(await joinOnce(options, tls, secret ?? (await options.newSecret())));
      break;
    } catch (error) {
      signal.throwIfAborted();
      const failure: Failure = asFailure(error);
      log.warn({ code: failure.code, err: failure.message, failures }, "the node's authority could not be joined yet");
      // A secret is good once, also where its answer was lost on the way.
      secret = undefined;
      await sleep(Math.random() * Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** failures), undefined, { signal });
    }
  }
  const renew = async (): Promise<Certificate> => joinOnce(options, tls, await options.newSecret());
  const lifetimeMs = lifetimeOf(tls);
  const renewal = keepRenewed({ identity: tls, renew, lifetimeMs, clock, signal, log });
  tls.on("trusted", () => {
    if (!tls.isCurrent) renewal.now();
  });
  return tls;
}

/** Asks with the supervisor's secret and not with the certificate: it works after a jump of the clock, too. */
async function joinOnce(options: JoinOptions, tls: TlsIdentity, secret: string): Promise<Certificate> {
  const { node, service, instance } = options;
  const { keyPem, csrPem } = await makeKeyAndRequest(spiffeName(node, service));
  const call = makeCall({ caller: service, timeoutMs: JOIN_TIMEOUT_MS, signal: options.signal });
  const asked = { body: { service, instance, secret, csrPem } };
  try {
    if ("join" in options.identity) return { keyPem, certPem: (await options.identity.join(asked, call)).certPem };
    const agent = joinAgent(node, tls.authorities);
    try {
      const target: Target = { ...options.identity, agent, secure: true };
      const client = connect(identityContract, { resolver: { pick: () => target, failed: () => undefined } });
      return { keyPem, certPem: (await client.join(asked, call)).certPem };
    } finally {
      agent.destroy();
    }
  } finally {
    call.end(false);
  }
}

/** Talks to identity, and nobody else, without a certificate of its own. */
function joinAgent(node: string, authorities: readonly string[]): Agent {
  return new Agent({
    ca: [...authorities],
    minVersion: "TLSv1.3",
    servername: "",
    checkServerIdentity: (_host, peer) => {
      const name = certificateName(peer.raw);
      if (name?.node === node && name.service === "identity") return undefined;
      return fail(
        IDENTITY_PEER_OTHER,
        `identity of ${node} was expected, ${name ? spiffeName(name.node, name.service) : "somebody without a name of ours"} answered`,
      );
    },
  });
}

/** Tells how long a certificate that was just issued lives. */
const lifetimeOf = (tls: TlsIdentity): number => Math.max(1_000, (tls.certificate?.notAfterMs ?? 0) - Date.now());
