/**
 * Identity's config and wiring: makes the authority at the first start, certifies itself, tells the supervisor whom to
 * trust.
 */
import { type Static, Type } from "typebox";
import { createAuthority } from "../../kernel/identity/authority.ts";
import { keepRenewed, type Renewal } from "../../kernel/identity/renewal.ts";
import { makeKeyAndRequest } from "../../kernel/identity/request.ts";
import { isNeed } from "../../kernel/identity/needs.ts";
import { spiffeName } from "../../kernel/identity/names.ts";
import { type Certificate, TlsIdentity } from "../../kernel/identity/tls.ts";
import { type Context, defineService, field } from "../../kernel/service.ts";
import { Admissions } from "./admission.ts";
import { identity } from "./api.ts";
import { AuditAnchor } from "./audit-anchor.ts";
import { Authorities } from "./authorities.ts";
import { CODE_MS, makeDevices } from "./devices.ts";
import { Issued } from "./issued.ts";
import { machineNames, sortNames } from "./names.ts";
import { makeIdentity, namesOf } from "./service.ts";
import { SealedFile } from "./sealed-file.ts";
import { type Kept, loadKept, saveKept, type StoreOptions } from "./store.ts";
import { makeSigningKey, makeTokenSigner } from "./token.ts";

const config = Type.Object(
  {
    certificateLifetimeMs: field(Type.Integer({ minimum: 2_000, maximum: 30 * 86_400_000 }), {
      description:
        "How long a service's certificate is valid, in milliseconds; services renew theirs at a third of it.",
      default: 3_600_000,
      example: 86_400_000,
    }),
    deviceCertificateLifetimeMs: field(Type.Integer({ minimum: 2_000, maximum: 400 * 86_400_000 }), {
      description: "How long a device's certificate is valid, in milliseconds; a device renews it over EST.",
      default: 90 * 86_400_000,
      example: 30 * 86_400_000,
    }),
    deviceManufacturers: field(Type.Array(Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,30}$" }), { maxItems: 16 }), {
      description:
        "Names in gateway.certificateAuthorities whose holders are devices: their certificates (IDevID) get them one of this node.",
      default: [],
      example: ["acme"],
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
    const names = gatewayNamesOf(context.config.gatewayNames);
    const store = { directory: context.directory, key: context.key("authority"), log };
    const kept = (await loadKept(store)) ?? (await firstKept(context, store));
    const signer = await makeTokenSigner({ node, keyPkcs8: kept.tokenKey, clock });
    const admissions = new Admissions({ clock, log });
    listenToSupervisor(context, admissions);
    const fileOf = <T>(name: string) =>
      new SealedFile<T>({ directory: context.directory, name, key: context.key(name), log });
    const anchor = await AuditAnchor.open({ node, file: fileOf("audit-anchor"), auditKey: kept.auditKey });
    const lifetimeMs = context.config.certificateLifetimeMs;
    const issued = await Issued.open({ lifetimeMs, clock, file: fileOf("revoked") });
    const authorities: Authorities = await Authorities.open({
      node,
      clock,
      lifetimeMs,
      kept,
      save: (changed) => saveKept(store, changed),
      changed(what) {
        const { fingerprint } = authorities.current;
        context.audit.note({ action: `authority.${what}`, outcome: "done", who: "identity", what: fingerprint });
        publish();
      },
    });
    const own = await ownIdentity(context, authorities, issued);
    /** Everybody is told whom to believe, over the supervisor's pipes. */
    const publish = (): void => {
      const trust = { caPem: authorities.bundlePem, revoked: issued.revoked };
      own.tls.trust(trust);
      if (!own.tls.isCurrent) own.renewal.now();
      supervisor.send("authority", { ...trust, fingerprint: authorities.current.fingerprint });
    };
    publish();
    await authorities.moveOn();
    return {
      service: makeIdentity({
        node,
        authorities,
        signer,
        admissions,
        anchor,
        issued,
        publish,
        audit: context.audit,
        devices: devicesOf(context, authorities, issued),
        lifetimeMs,
        gatewayNames: names,
        startAnew: (service, instance) => supervisor.send("revoked", { service, instance: instance ?? "" }),
      }),
      identity: own.tls,
      async stop() {
        authorities.close();
        own.tls.close();
      },
    };
  },
});

type IdentityContext = Context<Static<typeof config>>;

/** Tells by which names the gateway is reached: the machine's, as they are at the time, and those of the config. */
function gatewayNamesOf(said: readonly string[]): () => { dns: string[]; ips: readonly string[] } {
  const { dns, ips, neither } = sortNames(said);
  if (neither.length > 0)
    throw new Error(`config.gatewayNames: '${neither[0]}' is neither a DNS name nor an IP address`);
  return () => ({ dns: [...machineNames().dns, ...dns], ips });
}

function devicesOf({ node, log, clock, config: c }: IdentityContext, authorities: Authorities, issued: Issued) {
  return makeDevices({
    node,
    authorities,
    issued,
    codes: new Admissions({ clock, log, admissionMs: CODE_MS }),
    lifetimeMs: c.deviceCertificateLifetimeMs,
    manufacturers: c.deviceManufacturers,
    wallMs: () => clock.wallMs(),
  });
}

/** Makes the authority and the keys for tokens and the audit trail, at the first start. */
async function firstKept({ node, clock, log }: IdentityContext, store: StoreOptions): Promise<Kept> {
  const authority = await createAuthority({ node, clock });
  const kept = {
    caCertPem: authority.certPem,
    caKey: await authority.exportKey(),
    tokenKey: makeSigningKey(),
    auditKey: makeSigningKey(),
    old: [],
  };
  await saveKept(store, kept);
  log.info({ fingerprint: authority.fingerprint }, "the node's certificate authority was made");
  return kept;
}

/** Certifies identity by its own authority, now and at each renewal. */
async function ownIdentity(
  context: IdentityContext,
  authorities: Authorities,
  issued: Issued,
): Promise<{ tls: TlsIdentity; renewal: Renewal }> {
  const { node, name, clock, log, stopping, instance } = context;
  const lifetimeMs = context.config.certificateLifetimeMs;
  const tls = new TlsIdentity({ node, service: name, caPem: authorities.bundlePem, clock });
  const { dns, ips } = namesOf({ gatewayNames: () => ({ dns: [], ips: [] }) }, name);
  const certify = async (): Promise<Certificate> => {
    const { keyPem, csrPem } = await makeKeyAndRequest(spiffeName(node, name));
    const { certPem, serial, notAfterMs } = await authorities.current.issue({
      csrPem,
      dns,
      ips,
      name: spiffeName(node, name),
      lifetimeMs: issued.lifetimeMsOf(name),
      client: true,
      server: true,
    });
    issued.add({ name, instance, serial, notAfterMs });
    return { certPem, keyPem };
  };
  tls.update(await certify());
  return { tls, renewal: keepRenewed({ identity: tls, renew: certify, lifetimeMs, clock, signal: stopping, log }) };
}

/** The supervisor announces whom it starts: `expect-join` {service, instance, secretSha256 (hex), needs}. */
function listenToSupervisor({ supervisor, log }: IdentityContext, admissions: Admissions): void {
  supervisor.on("expect-join", ({ service, instance, secretSha256, needs }) => {
    if (
      typeof service === "string" &&
      typeof instance === "string" &&
      typeof secretSha256 === "string" &&
      /^[0-9a-f]{64}$/i.test(secretSha256) &&
      (needs === undefined || areNeeds(needs))
    ) {
      admissions.expect({ service, instance, secretSha256, needs });
    } else log.error({ service, instance }, "the supervisor announced an instance in a form that is not understood");
  });
}

const areNeeds = (needs: unknown): needs is string[] =>
  Array.isArray(needs) && needs.every((need) => typeof need === "string" && isNeed(need));
