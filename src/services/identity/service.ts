/** The rules of identity: who gets a certificate for which name, who gets a token of which role. */
import type { Call } from "../../kernel/call.ts";
import { asFailure, fail } from "../../kernel/error.ts";
import { spiffeName } from "../../kernel/identity/names.ts";
import type { Auditor } from "../../kernel/audit.ts";
import type { Admissions } from "./admission.ts";
import { type Certificate, IDENTITY_ROLE_REFUSED, type Identity, ROLES, type Role } from "./api.ts";
import type { AuditAnchor } from "./audit-anchor.ts";
import type { Authorities } from "./authorities.ts";
import type { Issued } from "./issued.ts";
import type { TokenSigner } from "./token.ts";

/** What a service's certificate serves under besides its SPIFFE name: services meet on loopback only. */
const LOOPBACK = { dns: ["localhost"], ips: ["127.0.0.1", "::1"] };

export interface IdentityOptions {
  readonly node: string;
  readonly authorities: Authorities;
  readonly signer: TokenSigner;
  readonly admissions: Admissions;
  readonly anchor: AuditAnchor;
  readonly audit: Auditor;
  readonly issued: Issued;
  readonly devices: Pick<Identity, "deviceCode" | "enrollDevice">;
  readonly lifetimeMs: number;
  /** Tells everybody whom to believe. */
  publish(): void;
  /** Has the supervisor start a service anew, one instance or all. */
  startAnew(service: string, instance: string | undefined): void;
  /** The names people reach the gateway by, asked at each of its certificates: addresses change. */
  gatewayNames(): { readonly dns: readonly string[]; readonly ips: readonly string[] };
}

/** Makes the identity service. */
export function makeIdentity(options: IdentityOptions): Identity {
  const { authorities, signer, admissions, anchor } = options;
  return {
    join: ({ body }, call) =>
      noted(options, { action: "certificate.join", who: body.service, what: body.instance, call }, () => {
        const needs = admissions.take(body);
        return certify(options, { ...body, needs });
      }),
    renew: ({ body }, call) =>
      noted(options, { action: "certificate.renew", who: call.caller, what: call.caller, call }, () =>
        certify(options, { service: call.caller, instance: "", csrPem: body.csrPem, needs: call.needs }),
      ),
    async issueToken({ body }, call) {
      const scopes = ROLES[body.role];
      const who = call.subject?.name ?? call.caller;
      const what = `${body.role} for ${body.subject}, ${body.lifetimeS} s`;
      return noted(options, { action: "token.issue", who, what, call }, () => {
        refuseMore(body.role, scopes, call);
        return signer.sign({ subject: body.subject, role: body.role, scopes, lifetimeS: body.lifetimeS });
      });
    },
    async keys() {
      return { keys: signer.keys.map((k) => ({ ...k })) };
    },
    async authority() {
      return { caPem: authorities.bundlePem, node: options.node };
    },
    async auditAnchor() {
      return { node: options.node, ...anchor.place, keys: [anchor.publicKeyPem] };
    },
    async signAudit({ body }) {
      return { signature: await anchor.sign(body) };
    },
    ...certificatesOf(options),
    ...devicesOf(options),
  };
}

/** Does what is asked and notes it, done or denied. */
async function noted<T>(
  { audit }: IdentityOptions,
  { call, ...said }: { action: string; who: string; what: string; call: Call },
  work: () => T | Promise<T>,
): Promise<T> {
  try {
    const done = await work();
    audit.note({ ...said, outcome: "done", requestId: call.requestId });
    return done;
  } catch (error) {
    audit.note({ ...said, outcome: "denied", requestId: call.requestId, note: asFailure(error).code });
    throw error;
  }
}

/** The operations of who looks after certificates. */
function certificatesOf(options: IdentityOptions): Pick<Identity, "certificates" | "revoke" | "rotateAuthority"> {
  const { authorities, issued, lifetimeMs } = options;
  const whoOf = (call: Call): string => call.subject?.name ?? call.caller;
  return {
    async certificates() {
      return { authorities: authorities.list(), lifetimeMs, issued: issued.list(), revoked: [...issued.revoked] };
    },
    revoke: ({ body }, call) =>
      noted(options, { action: "certificate.revoke", who: whoOf(call), what: body.what, call }, async () => {
        const { revocation, name, instance } = await issued.revoke(body.what);
        // First, so that a process that is not trusted any more cannot join again: a new one takes its place.
        if (name !== undefined) options.startAnew(name, instance);
        options.publish();
        const { serial, service } = revocation;
        return { ...(serial === undefined ? {} : { serial }), ...(service === undefined ? {} : { service }) };
      }),
    rotateAuthority: ({ body }, call) =>
      noted(options, { action: "authority.rotate", who: whoOf(call), what: `overlap ${body.overlapMs} ms`, call }, () =>
        authorities.rotate(body.overlapMs),
      ),
  };
}

/** The operations about devices, noted. */
function devicesOf(options: IdentityOptions): IdentityOptions["devices"] {
  const { devices } = options;
  return {
    deviceCode: (input, call) => {
      const who = call.subject?.name ?? call.caller;
      return noted(options, { action: "device.code", who, what: input.body.name, call }, () =>
        devices.deviceCode(input, call),
      );
    },
    enrollDevice: (input, call) => {
      const { code, holder, again } = input.body;
      const who = code?.name ?? (holder ? `${holder.authority}/${holder.name}` : "somebody");
      return noted(
        options,
        { action: again ? "device.reenroll" : "device.enroll", who, what: "certificate", call },
        () => devices.enrollDevice(input, call),
      );
    },
  };
}

interface Certified {
  readonly service: string;
  readonly instance: string;
  readonly csrPem: string;
  readonly needs: readonly string[] | undefined;
}

/** Issues a service's certificate; what the request asks to be called is ignored. */
async function certify(
  options: IdentityOptions,
  { service, instance, csrPem, needs }: Certified,
): Promise<Certificate> {
  const { authorities, issued } = options;
  const { dns, ips } = namesOf(options, service);
  const name = spiffeName(options.node, service);
  const { certPem, serial, notAfterMs } = await authorities.current.issue({
    csrPem,
    name,
    dns,
    ips,
    lifetimeMs: issued.lifetimeMsOf(service),
    client: true,
    server: true,
    ...(needs ? { needs } : {}),
  });
  issued.add({ name: service, instance, serial, notAfterMs });
  return { certPem, caPem: authorities.bundlePem, notAfterMs };
}

/**
 * The names a service's certificate is for, in DNS and by address: the gateway's public door alone has more than
 * loopback.
 */
export function namesOf(
  options: Pick<IdentityOptions, "gatewayNames">,
  service: string,
): { dns: string[]; ips: string[] } {
  const more = service === "gateway" ? options.gatewayNames() : { dns: [], ips: [] };
  return { dns: [...new Set([...LOOPBACK.dns, ...more.dns])], ips: [...new Set([...LOOPBACK.ips, ...more.ips])] };
}

/** A person gives nobody more than they have; the supervisor, for the operator at the machine, gives any role. */
function refuseMore(role: Role, scopes: readonly string[], call: Call): void {
  const { subject } = call;
  if (!subject || subject.scopes.includes("*")) return;
  const missing = scopes.find((s) => !subject.scopes.includes(s));
  if (missing === undefined) return;
  throw fail(
    IDENTITY_ROLE_REFUSED,
    `'${subject.name}' may not issue a token of role '${role}': scope '${missing}' is not theirs`,
  );
}
