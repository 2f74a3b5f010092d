/**
 * Whom a certificate lets its holder call: an extension of ours that lists services (`*` at the end stands for any ending), and
 * what of the bus may be heard (`bus:edgex/events/#`). A certificate without it, the supervisor's, lets call everybody.
 */
import { type DerValue, der, readDer, TAG } from "./der.ts";

/** 2.25.238699768365598128348780015021263147602: an identifier of one's own, from a UUID (ITU-T X.667). */
const NEEDS = der(TAG.oid, Buffer.from("6982e793f3cdb2d3ca9c8da5c3ca9192feafa452", "hex"));
/** In a certificate; a service that needs more needs everybody. */
export const NEEDS_MAX = 64;
export const NEED_LENGTH_MAX = 200;
const NEED = /^(\*|[a-z0-9][a-z0-9-]{0,62}\*?)(:[\x21-\x7e]+)?$/;

/** Tells whether a need is of the form that certificates can hold. */
export const isNeed = (need: string): boolean => need.length <= NEED_LENGTH_MAX && NEED.test(need);

/** Writes the extension. Not critical (RFC 5280 4.2): who does not know it, a cloud, is nobody that it lists. */
export function needsExtension(needs: readonly string[]): Buffer {
  const list = der(TAG.sequence, ...needs.slice(0, NEEDS_MAX).map((need) => der(TAG.utf8, Buffer.from(need))));
  return der(TAG.sequence, NEEDS, der(TAG.octetString, list));
}

/** Reads it among a certificate's extensions: undefined where it is absent; one that cannot be read lets call nobody. */
export function needsIn(extensions: readonly DerValue[]): readonly string[] | undefined {
  for (const extension of extensions) {
    const parts = readDer(extension.contents) ?? [];
    if (!parts[0]?.whole.equals(NEEDS)) continue;
    const list = parts.at(-1)?.tag === TAG.octetString ? readDer(parts.at(-1)!.contents)?.[0] : undefined;
    const needs = (list && readDer(list.contents)) ?? [];
    return needs.map(({ contents }) => contents.toString("utf8")).filter(isNeed);
  }
  return undefined;
}

/** Tells whether a need means this service. */
export const meant = (need: string, service: string): boolean => {
  const [name] = need.split(":", 1);
  return name === service || (name.endsWith("*") && service.startsWith(name.slice(0, -1)));
};

/** Tells whether the holder of a certificate with these needs may call a service at all. */
export const mayReach = (needs: readonly string[] | undefined, service: string): boolean =>
  needs === undefined || needs.some((need) => meant(need, service));

/** What of a service these needs name beyond the service itself: of `bus:edgex/events/#` the filter. */
export const partsOf = (needs: readonly string[] | undefined, service: string): string[] =>
  (needs ?? []).filter((need) => need.startsWith(`${service}:`)).map((need) => need.slice(service.length + 1));
