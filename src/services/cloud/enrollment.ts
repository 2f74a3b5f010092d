/** Whom the cloud enrolls: one-time codes, certificates for them, and their renewal. */
import { createHash, randomBytes } from "node:crypto";
import type { Clock } from "../../kernel/clock.ts";
import { fail } from "../../kernel/error.ts";
import type { Authority } from "../../kernel/identity/authority.ts";
import { spiffeName } from "../../kernel/identity/names.ts";
import type { Log } from "../../kernel/log.ts";
import { type Cloud, CLOUD_CODE_REFUSED } from "./api.ts";
import type { CloudStore } from "./store.ts";

export interface EnrollmentNeeds {
  readonly store: CloudStore;
  readonly authority: Authority;
  /** The cloud's own name, in its certificates. */
  readonly name: string;
  readonly certificateLifetimeMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

const CODE_BYTES = 15;
/** Wrong codes within WRONG_CODES_MS before strangers are told to wait. A right code is always taken: nobody locks out others. */
const WRONG_CODES_MAX = 20;
const WRONG_CODES_MS = 60_000;

const hashOf = (code: string): Buffer => createHash("sha256").update(code).digest();
/** The node that a caller's certificate is for. */
export const edgeOf = (caller: string): string => caller.slice("edge.".length);

export function makeEnrollment(needs: EnrollmentNeeds): Pick<Cloud, "enroll" | "renew" | "newCode"> {
  const { store, authority, name, clock, log } = needs;
  const certify = async (edge: string, csrPem: string) => {
    const issued = await authority.issue({
      csrPem,
      name: spiffeName(name, `edge.${edge}`),
      dns: [],
      ips: [],
      lifetimeMs: needs.certificateLifetimeMs,
      client: true,
      server: false,
    });
    return { certPem: issued.certPem, caPem: authority.certPem, notAfterMs: issued.notAfterMs };
  };
  const refused = makeRefusals(clock);
  return {
    async enroll({ body: { edge, code, csrPem } }, call) {
      const hash = hashOf(code);
      if (!store.hasCode(hash, clock.wallMs())) throw refused();
      // First the certificate: a request that cannot be certified uses up no code.
      const certificate = await certify(edge, csrPem);
      store.transaction(() => {
        if (!store.takeCode(hash, clock.wallMs())) throw refused();
        store.enroll(edge, clock.wallMs());
      });
      log.info({ requestId: call.requestId, edge }, "a node was enrolled");
      return certificate;
    },
    renew: ({ body }, call) => certify(edgeOf(call.caller), body.csrPem),
    async newCode({ body }) {
      const code = randomBytes(CODE_BYTES).toString("base64url");
      const expiresAtMs = clock.wallMs() + body.lifetimeS * 1000;
      // The fingerprint travels with the secret: the node knows whom it talks to before it says the secret.
      const full = `${code}.${Buffer.from(authority.fingerprint, "hex").toString("base64url")}`;
      store.addCode(hashOf(full), expiresAtMs, clock.wallMs());
      return { code: full, expiresAtMs };
    },
  };
}

/** Makes the failures of wrong codes: guessing 120 bits is hopeless, but who tries all the time is told to slow down. */
function makeRefusals(clock: Clock): () => Error {
  const wrong = { count: 0, sinceMs: 0 };
  return () => {
    if (clock.monotonicMs() - wrong.sinceMs > WRONG_CODES_MS)
      Object.assign(wrong, { count: 0, sinceMs: clock.monotonicMs() });
    if (++wrong.count <= WRONG_CODES_MAX) return fail(CLOUD_CODE_REFUSED, "the code is wrong, used or too old");
    return fail(CLOUD_CODE_REFUSED, "too many wrong codes; try again in a minute", {
      retryAfterS: WRONG_CODES_MS / 1000,
    });
  };
}
