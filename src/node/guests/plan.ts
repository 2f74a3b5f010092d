/** How a service of somebody else's is confined: as ours are, and to what it was granted. */
import { CONFIG_SECRET_MISSING } from "../../kernel/config-reach.ts";
import { fail } from "../../kernel/error.ts";
import { NODE_FLAGS } from "../flags.ts";
import type { Identity } from "../confine/uids.ts";
import { confinementOf, type Plan } from "../confine/plan.ts";
import type { Manifest } from "../manifest.ts";
import { join } from "node:path";
import { DESCRIBE, GUEST_START } from "./bundle.ts";
import type { GuestSpec } from "./spec.ts";

/** A service of somebody else's, as its process is made. */
export interface Guest {
  readonly manifest: Manifest;
  readonly spec: GuestSpec;
  /** Its bundle. */
  readonly directory: string;
}

interface PlanInput extends Pick<Guest, "directory"> {
  readonly service: string;
  readonly owner: Identity | undefined;
  readonly spec?: GuestSpec;
  /** Its own directories, if it keeps anything. */
  readonly write?: readonly string[];
  /** Ports of what it needs within the node. */
  readonly connectPorts?: readonly number[];
}

/** The secrets that it was granted, under the names that a config has for them. CONFIG_SECRET_MISSING. */
export function secretsOf({ spec, manifest }: Guest, secrets: { get(name: string): string | undefined }) {
  const found = spec.secrets.map((name): [string, string] => {
    const value = secrets.get(name);
    if (value === undefined)
      throw fail(CONFIG_SECRET_MISSING, `${manifest.name} is given the secret '${name}', and there is none`);
    return [`secret:${name}`, value];
  });
  return Object.fromEntries(found);
}

/** Heap and buffers of one that only tells what it is. */
const TELLING_BYTES_MAX = 256 * 1024 * 1024;

/** Plans the process of a guest; without a spec one that tells what it is, and may do nothing. */
export function guestPlan({ service, owner, directory, spec, write = [], connectPorts = [] }: PlanInput): Plan {
  return confinementOf({
    service,
    ...owner,
    nodePath: process.execPath,
    nodeFlags: NODE_FLAGS,
    script: join(directory, GUEST_START),
    args: [spec ? service : DESCRIBE],
    codeDirs: [directory],
    read: spec?.reads ?? [],
    write,
    connectPorts: [...connectPorts, ...(spec?.connectPorts ?? [])],
    udp: spec?.names ?? false,
    names: spec?.names ?? false,
    memoryBytesMax: spec?.memoryBytesMax ?? TELLING_BYTES_MAX,
  });
}
