/** The names people reach this machine by: for the certificate of the gateway's public door. */
import { isIP } from "node:net";
import { hostname, networkInterfaces } from "node:os";
import type { Log } from "../../kernel/log.ts";

/**
 * A certificate's size is paid at each handshake; a machine with more addresses names those it means in the config.
 */
const ADDRESSES_MAX = 24;
const DNS_NAME = /^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i;

export interface Names {
  readonly dns: readonly string[];
  readonly ips: readonly string[];
}

/** Sorts names into DNS names and addresses; a name that is neither is returned in `neither`. */
export function sortNames(names: readonly string[]): Names & { readonly neither: readonly string[] } {
  const ips = names.filter((n) => isIP(n) !== 0);
  const dns = names.filter((n) => isIP(n) === 0 && DNS_NAME.test(n) && n.length <= 253);
  return { ips, dns, neither: names.filter((n) => !ips.includes(n) && !dns.includes(n)) };
}

/** Finds the machine's host name and its addresses on the network (loopback and link-local ones apart). */
export function machineNames(log: Log): Names {
  const addresses: string[] = [];
  try {
    for (const list of Object.values(networkInterfaces())) {
      // fe80::/10 means another machine on each link, and needs a zone that no certificate can hold.
      for (const a of list ?? []) if (!a.internal && !a.address.startsWith("fe80:")) addresses.push(a.address);
    }
  } catch (error) {
    // A sandbox may forbid the question; the host name and the configured names remain.
    log.warn({ err: error }, "the machine's addresses cannot be listed; name them in identity.gatewayNames");
  }
  const host = hostname();
  return { dns: sortNames([host, `${host}.local`]).dns, ips: addresses.slice(0, ADDRESSES_MAX) };
}
