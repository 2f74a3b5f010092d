/** The machine's own addresses: the supervisor can ask for them, a confined service cannot. */
import { networkInterfaces } from "node:os";
import type { ConfigValues } from "../kernel/config.ts";

/** A certificate's size is paid at each handshake; a machine with more addresses names those it means in the config. */
const ADDRESSES_MAX = 24;

/** Adds the machine's addresses on the network (loopback and link-local ones apart) to the names that the gateway is certified for. */
export function withAddresses(identityConfig: ConfigValues | undefined): ConfigValues {
  const configured = (identityConfig?.["gatewayNames"] ?? []) as readonly string[];
  const found = Object.values(networkInterfaces()).flatMap((list) =>
    // fe80::/10 means another machine on each link, and needs a zone that no certificate can hold.
    (list ?? []).filter((a) => !a.internal && !a.address.startsWith("fe80:")).map((a) => a.address),
  );
  return {
    ...identityConfig,
    gatewayNames: [...new Set([...configured, ...found])].slice(0, Math.max(ADDRESSES_MAX, configured.length)),
  };
}
