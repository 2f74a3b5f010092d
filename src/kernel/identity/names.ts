/** Names of nodes and services as they stand in certificates: `spiffe://<node>/service/<service>`. */
import { fail } from "../error.ts";
import { IDENTITY_NAME_INVALID } from "./codes.ts";

export interface SpiffeName {
  readonly node: string;
  readonly service: string;
}

/** SPIFFE-ID 2.1: a trust domain has lower-case letters, digits, '.', '-', '_' and at most 255 characters. */
const NODE = /^[a-z0-9][a-z0-9._-]{0,254}$/;
/** SPIFFE-ID 2.2 allows these characters; a first letter or digit rules out '.' and '..'. 64 is X.520's limit of a common name. */
const SERVICE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** Makes the name of a service on a node; IDENTITY_NAME_INVALID. */
export function spiffeName(node: string, service: string): string {
  if (!NODE.test(node))
    throw fail(
      IDENTITY_NAME_INVALID,
      `'${node}' is no name for a node: lower-case letters, digits, '.', '-', '_', at most 255`,
    );
  if (!SERVICE.test(service))
    throw fail(
      IDENTITY_NAME_INVALID,
      `'${service}' is no name for a service: letters, digits, '.', '-', '_', at most 64`,
    );
  return `spiffe://${node}/service/${service}`;
}

/** Reads such a name; undefined for anything that `spiffeName` would not have made, to the letter. */
export function parseSpiffe(uri: string): SpiffeName | undefined {
  const [scheme, empty, node = "", kind, service = "", ...rest] = uri.split("/");
  if (scheme !== "spiffe:" || empty !== "" || kind !== "service" || rest.length > 0) return undefined;
  return NODE.test(node) && SERVICE.test(service) ? { node, service } : undefined;
}

/** A device's name is another kind: no service takes a device for one of the node's services. */
const DEVICE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** Makes the name of a device in its certificate, `spiffe://<node>/device/<device>`; IDENTITY_NAME_INVALID. */
export function deviceName(node: string, device: string): string {
  if (NODE.test(node) && DEVICE.test(device)) return `spiffe://${node}/device/${device}`;
  throw fail(
    IDENTITY_NAME_INVALID,
    `'${device}' is no name for a device's certificate: letters, digits, '.', '-', '_', at most 64`,
  );
}

/** Reads such a name; undefined for anything that `deviceName` would not have made. */
export function parseDeviceName(uri: string): { readonly node: string; readonly device: string } | undefined {
  const [, node = "", device = ""] = /^spiffe:\/\/([^/]+)\/device\/([^/]+)$/.exec(uri) ?? [];
  return NODE.test(node) && DEVICE.test(device) ? { node, device } : undefined;
}
