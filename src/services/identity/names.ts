/** The names people reach this machine by: for the certificate of the gateway's public door. */
import { isIP } from "node:net";
import { hostname } from "node:os";

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

/** Finds the machine's host name; its addresses come with the config (the supervisor adds them: a sandbox may not ask). */
export function machineNames(): Names {
  const host = hostname();
  return { dns: sortNames([host, `${host}.local`]).dns, ips: [] };
}
