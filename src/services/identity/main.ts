/**
 * Identity's config and wiring: makes the authority at the first start, certifies itself, tells the supervisor whom to
 * trust.
 */
import { type Static, Type } from "typebox";
import { createAuthority, loadAuthority, type Authority } from "../../kernel/identity/authority.ts";
import { keepRenewed } from "../../kernel/identity/renewal.ts";
import { makeKeyAndRequest } from "../../kernel/identity/request.ts";
import { spiffeName } from "../../kernel/identity/names.ts";
import { type Certificate, TlsIdentity } from "../../kernel/identity/tls.ts";
import { type Context, defineService, field } from "../../kernel/service.ts";
import { Admissions } from "./admission.ts";
import { identity } from "./api.ts";
import { AuditAnchor } from "./audit-anchor.ts";
import { machineNames, sortNames } from "./names.ts";
import { makeIdentity, namesOf } from "./service.ts";
import { loadKept, saveKept } from "./store.ts";
import { makeSigningKey, makeTokenSigner } from "./token.ts";

const config = Type.Object(
  {
    certificateLifetimeMs: field(Type.Integer({ minimum: 2_000, maximum: 30 * 86_400_000 }), {
      description:
        "How long a service's certificate is valid, in milliseconds; services renew theirs at a third of it.",
      default: 3_600_000,
      example: 86_400_000,
    }),
    gatewayNames: field(Type.Array(Type.String({ minLength: 1, maxLength: 253 }), { maxItems: 32 }), {
      description:
        "Further DNS names and IP addresses people reach the gateway by, besides localhost, the host name and the machine's own addresses.",
      default: [],
      example: ["edge7.plant.example", "203.0.113.7"],
    }),
  },
  { additionalProperties: false },
);

export const main = defineService({
  contract: identity,
  config,
  needs: [],
  stateful: true,
  ownIdentity: true,
  async start(context) {
    const { node, log, clock, supervisor } = context;
    const configured = sortNames(context.config.gatewayNames);
    if (configured.neither.length > 0)
      throw new Error(`config.gatewayNames: '${configured.neither[0]}' is neither a DNS name nor an IP address`);
    const { authority, tokenKey, auditKey } = await openStore(context);
    const signer = await makeTokenSigner({ node, keyPkcs8: tokenKey, clock });
    const admissions = new Admissions({ clock, log });
    listenToSupervisor(context, admissions);
    const gatewayNames = () => {
      return { dns: [...machineNames().dns, ...configured.dns], ips: configured.ips };
    };
    const anchor = await AuditAnchor.open({
      node,
      directory: context.directory,
      key: context.key("audit-anchor"),
      auditKey,
      log,
    });
    const tls = await ownIdentity(context, authority);
    supervisor.send("authority", { caPem: authority.certPem, fingerprint: authority.fingerprint });
    return {
      service: makeIdentity({
        node,
        authority,
        signer,
        admissions,
        anchor,
        audit: context.audit,
        certificateLifetimeMs: context.config.certificateLifetimeMs,
        gatewayNames,
      }),
      identity: tls,
      async stop() {
        tls.close();
      },
    };
  },
});

type IdentityContext = Context<Static<typeof config>>;

/** Loads the authority and the token key, making both at the first start. */
async function openStore(
  context: IdentityContext,
): Promise<{ authority: Authority; tokenKey: Buffer; auditKey: Buffer }> {
  const { node, clock, log } = context;
  const store = { directory: context.directory, key: context.key("authority"), log };
  const kept = await loadKept(store);
  if (kept)
    return {
      authority: await loadAuthority({ certPem: kept.caCertPem, keyPkcs8: kept.caKey, clock }),
      tokenKey: kept.tokenKey,
      auditKey: kept.auditKey,
    };
  const authority = await createAuthority({ node, clock });
  const [tokenKey, auditKey] = [makeSigningKey(), makeSigningKey()];
  await saveKept(store, { caCertPem: authority.certPem, caKey: await authority.exportKey(), tokenKey, auditKey });
  log.info({ fingerprint: authority.fingerprint }, "the node's certificate authority was made");
  return { authority, tokenKey, auditKey };
}

/** Certifies identity by its own authority, now and at each renewal. */
async function ownIdentity(context: IdentityContext, authority: Authority): Promise<TlsIdentity> {
  const { node, name, clock, log, stopping } = context;
  const lifetimeMs = context.config.certificateLifetimeMs;
  const tls = new TlsIdentity({ node, service: name, caPem: authority.certPem, clock });
  const { dns, ips } = namesOf({ gatewayNames: () => ({ dns: [], ips: [] }) }, name);
  const certify = async (): Promise<Certificate> => {
    const { keyPem, csrPem } = await makeKeyAndRequest(spiffeName(node, name));
    const { certPem } = await authority.issue({
      csrPem,
      name: spiffeName(node, name),
      dns,
      ips,
      lifetimeMs,
      client: true,
      server: true,
    });
    return { certPem, keyPem };
  };
  tls.update(await certify());
  keepRenewed({ identity: tls, renew: certify, lifetimeMs, clock, signal: stopping, log });
  return tls;
}

/** The supervisor announces whom it starts: `expect-join` {service, instance, secretSha256 (hex)}. */
function listenToSupervisor({ supervisor, log }: IdentityContext, admissions: Admissions): void {
  supervisor.on("expect-join", ({ service, instance, secretSha256 }) => {
    if (
      typeof service === "string" &&
      typeof instance === "string" &&
      typeof secretSha256 === "string" &&
      /^[0-9a-f]{64}$/i.test(secretSha256)
    ) {
      admissions.expect({ service, instance, secretSha256 });
    } else log.error({ service, instance }, "the supervisor announced an instance in a form that is not understood");
  });
}
