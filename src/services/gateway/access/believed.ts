/** Puts together whom the config has this door believe: its own node, issuers, authorities, a login. */
import type { Clock } from "../../../kernel/clock.ts";
import { CONFIG_VALUE_INVALID } from "../../../kernel/config.ts";
import { fail } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import type { GatewayConfig } from "../config.ts";
import { NO_ROUTES } from "../routes.api.ts";
import { Access } from "./access.ts";
import { Certificates, OWN_AUTHORITY } from "./certificates.ts";
import { Grants, type Roles } from "./grants.ts";
import { Issuer } from "./issuer.ts";
import { type Issuers, makeIssuers } from "./issuers.ts";
import { KeySet } from "./keys.ts";
import { Lockout } from "./lockout.ts";
import { Login } from "./login.ts";
import { Sessions } from "./sessions.ts";
import { Tokens } from "./tokens.ts";

/** The audience of this node's tokens, as identity signs them. */
const AUDIENCE = "holdfast";

export interface BelievedOptions {
  readonly node: string;
  readonly config: GatewayConfig;
  readonly secrets: Readonly<Record<string, string>>;
  /** Derives a key for one purpose. */
  readonly key: (purpose: string) => Buffer;
  /** PEM of this node's authorities. */
  readonly ownAuthorities: readonly string[];
  /** What this node's own roles stand for. */
  readonly ownRoles: Roles;
  /** Reads the keys of this node's tokens (JWKS). */
  readonly readOwnKeys: () => Promise<unknown>;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Believed {
  readonly access: Access;
  readonly tokens: Tokens;
  readonly certificates: Certificates;
  readonly login: Login | undefined;
  readonly sessions: Sessions | undefined;
  readonly lockout: Lockout;
}

/** Makes it all; CONFIG_VALUE_INVALID where the config contradicts itself. Nobody is asked yet. */
export function makeBelieved(options: BelievedOptions): Believed {
  const { node, config: c, secrets, clock, log } = options;
  const grants = new Grants(options.ownRoles);
  const onWithdrawn = () => tokens.forget();
  const shared = { skewMs: c.clockSkewMs, clock, log, onWithdrawn };
  const issuers = makeIssuers({ node, configs: c.issuers, secrets, ...shared });
  const tokens = new Tokens({
    own: ownIssuer(options, onWithdrawn),
    others: issuers.list,
    scopesOf: (issuer, claims) => grants.ofClaims(issuer, claims),
    clock,
  });
  const certificates = new Certificates({
    authorities: [
      ...(c.ownCertificates ? [{ name: OWN_AUTHORITY, pem: options.ownAuthorities.join("\n") }] : []),
      ...c.certificateAuthorities.map(({ name, caFile }) => ({ name, pem: secrets[caFile] ?? "" })),
    ],
    scopesOf: (authority, holder) => grants.ofHolder(authority, holder),
    clock,
  });
  const { sessions, login } = loginOf(options, grants, issuers);
  const names = namesOf(c);
  const lockout = new Lockout(clock);
  const access = new Access({ tokens, certificates, sessions, grants, lockout, names, log });
  access.load(NO_ROUTES);
  return { access, tokens, certificates, login, sessions, lockout };
}

/** The names that grants may be about; each begins the names of its people, so CONFIG_VALUE_INVALID where two share one. */
function namesOf({ issuers, certificateAuthorities, ownCertificates }: GatewayConfig): ReadonlySet<string> {
  const names = [...issuers, ...certificateAuthorities].map(({ name }) => name);
  if (ownCertificates) names.push(OWN_AUTHORITY);
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice === undefined) return new Set(names);
  throw fail(CONFIG_VALUE_INVALID, `config: '${twice}' is the name of two of 'gateway.issuers' and its authorities`);
}

function ownIssuer({ node, config: c, readOwnKeys, clock, log }: BelievedOptions, onWithdrawn: () => void): Issuer {
  const keys = new KeySet({
    what: "this node",
    read: readOwnKeys,
    // It is here: it may be asked as often as somebody comes, and what it said last counts until it says something else.
    failedAgainMs: 0,
    staleMsMax: Number.POSITIVE_INFINITY,
    clock,
    log,
    onWithdrawn,
  });
  const shared = { skewMs: c.clockSkewMs, keys, clock };
  return new Issuer({
    name: "",
    issuer: node,
    audiences: [AUDIENCE],
    algorithms: ["ES256"],
    types: ["jwt"],
    ...shared,
  });
}

function loginOf(options: BelievedOptions, grants: Grants, { list, discoveries }: Issuers) {
  const { config, secrets, key, clock, log } = options;
  const { login: c } = config;
  if (c === "none") return { sessions: undefined, login: undefined };
  const issuer = list.find(({ name }) => name === c.issuer);
  const discovery = discoveries.get(c.issuer);
  if (!issuer || !discovery)
    throw fail(
      CONFIG_VALUE_INVALID,
      `config: 'gateway.login.issuer' is '${c.issuer}', which is none of 'gateway.issuers'`,
    );
  const { sessionMs } = c;
  const origin = c.url.toLowerCase();
  const sessions = new Sessions({ key: key("sessions"), origin, sessionMs, grants, clock });
  const secret = c.clientSecretFile === undefined ? undefined : secrets[c.clientSecretFile].trim();
  const login = new Login({ config: c, secret, issuer, discovery, sessions, key: key("login"), clock, log });
  return { sessions, login };
}
