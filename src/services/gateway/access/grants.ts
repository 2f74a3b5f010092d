/** What somebody from elsewhere may here, as the routes file says it: by an issuer's claims, or a certificate's holder. */
import type { AccessFile, Grant } from "../access.api.ts";
import { glob } from "./glob.ts";
import type { Claims } from "./issuer.ts";

type Values = Claims["all"];
/** Claims that hold several values in one text (RFC 8693 4.2; `scp` is what some issuers call it). */
const SPACED = new Set(["scope", "scp"]);

interface Compiled {
  readonly grant: Grant;
  readonly claims: readonly (readonly [name: string, meets: (value: string) => boolean])[];
  readonly isHolder: (holder: string) => boolean;
  readonly scopes: readonly string[];
}

/** By name, the scopes that a role stands for. */
export type Roles = Readonly<Record<string, readonly string[]>>;

/** Tells the scopes that roles and scopes stand for, each once. */
export type RightsOf = (of: { readonly roles: readonly string[]; readonly scopes: readonly string[] }) => string[];

export class Grants {
  readonly #ownRoles: Roles;
  #compiled: readonly Compiled[] = [];

  /** `ownRoles`: those of this node's tokens. */
  constructor(ownRoles: Roles) {
    this.#ownRoles = ownRoles;
  }

  /** Takes the roles and grants of a routes file that was checked. Answers what their roles stand for. */
  load({ roles, grants }: Pick<AccessFile, "roles" | "grants">): RightsOf {
    const all: Roles = { ...roles, ...this.#ownRoles };
    const rightsOf: RightsOf = (of) => [...new Set([...of.roles.flatMap((role) => all[role] ?? []), ...of.scopes])];
    this.#compiled = grants.map((grant) => ({
      grant,
      claims: Object.entries(grant.claims ?? {}).map(([name, pattern]) => [name, glob(pattern)] as const),
      isHolder: glob(grant.holder ?? ""),
      scopes: rightsOf(grant),
    }));
    return rightsOf;
  }

  /** Scopes of somebody whose claims an issuer vouches for; none where no grant is about them. */
  ofClaims(issuer: string, claims: Values): string[] {
    return this.#scopes(
      ({ grant, claims: wanted }) =>
        grant.issuer === issuer && wanted.every(([name, meets]) => valuesOf(claims, name).some(meets)),
    );
  }

  /** Scopes of a certificate's holder; none where no grant is about them. */
  ofHolder(authority: string, holder: string): string[] {
    return this.#scopes(({ grant, isHolder }) => grant.authority === authority && isHolder(holder));
  }

  /** The claims of somebody that grants of an issuer ask about, and no others. */
  asked(issuer: string, claims: Values): Record<string, string[]> {
    const names = this.#compiled.flatMap(({ grant, claims: wanted }) =>
      grant.issuer === issuer ? wanted.map(([name]) => name) : [],
    );
    return Object.fromEntries([...new Set(names)].map((name) => [name, valuesOf(claims, name)]));
  }

  #scopes(isAbout: (compiled: Compiled) => boolean): string[] {
    return [...new Set(this.#compiled.filter(isAbout).flatMap(({ scopes }) => scopes))];
  }
}

/** The texts that a claim holds; a name with dots is one claim's, or the way to one in an object (`realm_access.roles`). */
function valuesOf(claims: Values, name: string): string[] {
  const value = Object.hasOwn(claims, name) ? claims[name] : name.split(".").reduce<unknown>(memberOf, claims);
  if (typeof value === "string") return SPACED.has(name) ? value.split(" ") : [value];
  if (typeof value === "boolean" || typeof value === "number") return [String(value)];
  return Array.isArray(value) ? value.filter((each) => typeof each === "string") : [];
}

const memberOf = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null && Object.hasOwn(value, name) ? (value as Values)[name] : undefined;
