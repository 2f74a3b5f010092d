/** Every listening socket of the node, opened before any service starts: a service's restart refuses no connection. */
import { closeSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { Failure, fail } from "../kernel/error.ts";
import type { NodeConfig } from "./config.ts";
import { listenTcp, listenUdp, listenUnix, NODE_PORT_IN_USE } from "./confine/listen.ts";
import type { Address } from "./hello.ts";
import { allDoors, type Manifest } from "./manifest.ts";

export interface Listening extends Address {
  readonly fd: number;
}

/** The sockets of one service; instances share the doors and have a contract's socket each. */
export interface ServiceSockets {
  readonly listen: readonly Listening[];
  /** A second one for each process of a service without state: it is replaced by one that serves beside it for a moment. */
  readonly spare: readonly Listening[];
  readonly doors: Readonly<Record<string, Listening>>;
  /** EdgeX's own port, which serves the contract. */
  readonly openEdgex?: Listening;
  /** Those that ask nobody who he is. */
  readonly withoutTls: readonly Listening[];
  readonly control?: { readonly fd: number; readonly path: string };
}

export interface SocketOptions {
  readonly manifests: readonly Manifest[];
  readonly node: NodeConfig;
  readonly openEdgex: boolean;
  readonly statePath: string;
  /** Where the cloud listens: address, wanted port, and the port that it had last time. */
  readonly cloud: { readonly host: string; readonly port: number; readonly before?: number | undefined };
}

const LOOPBACK = "127.0.0.1";

/** Opens them all, or none. NODE_PORT_IN_USE names the key of the config that chooses another port. */
export function openSockets(options: SocketOptions): Map<string, ServiceSockets> {
  const opened: number[] = [];
  const keep = <T extends { fd: number }>(socket: T): T => {
    opened.push(socket.fd);
    return socket;
  };
  try {
    return new Map(options.manifests.map((manifest) => [manifest.name, openOf(manifest, options, keep)]));
  } catch (error) {
    for (const fd of opened) closeSync(fd);
    throw error;
  }
}

/** Closes them all. */
export function closeSockets(sockets: ReadonlyMap<string, ServiceSockets>): void {
  for (const { listen, spare, doors, openEdgex, control } of sockets.values()) {
    for (const socket of [...listen, ...spare, ...Object.values(doors), openEdgex, control])
      if (socket) closeSync(socket.fd);
  }
}

/** Half the cores are for those behind it; more than so many processes of one service gain nothing on one machine. */
const SPREAD_MAX = 4;
/** Below this each process of 30 MB is dear: the node keeps within 400 MB. */
const SPREAD_MEMORY_BYTES_MIN = 4 * 1024 ** 3;

/** How many processes a service runs as that spreads over a machine's cores. */
export const spreadOver = (cores: number, memoryBytes: number): number =>
  memoryBytes < SPREAD_MEMORY_BYTES_MIN ? 1 : Math.max(1, Math.min(SPREAD_MAX, Math.floor(cores / 2)));

type Counted = Pick<NodeConfig, "instances" | "doors">;

/** How many processes of a service run. */
export function instancesOf({ name, stateful, spreads, doors }: Manifest, node: Counted): number {
  // A datagram comes to any of the processes that share a door, and what it belongs to is in the memory of one.
  const takesDatagrams = doors.some((door) => door.protocol === "udp" && node.doors[`${name}.${door.name}`]);
  if (stateful || takesDatagrams) return 1;
  return node.instances[name] ?? (spreads ? spreadOver(availableParallelism(), totalmem()) : 1);
}

type Keep = <T extends { fd: number }>(socket: T) => T;

function openOf(manifest: Manifest, options: SocketOptions, keep: Keep): ServiceSockets {
  const { name } = manifest;
  const isCloud = name === "cloud";
  const listen = Array.from({ length: instancesOf(manifest, options.node) }, () =>
    keep(isCloud ? cloudSocket(options) : listenTcp({ host: LOOPBACK, port: 0 })),
  );
  const spare = manifest.stateful ? [] : listen.map(() => keep(listenTcp({ host: LOOPBACK, port: 0 })));
  const doors: Record<string, Listening> = {};
  const withoutTls: Listening[] = [];
  for (const door of allDoors(manifest)) {
    if (door.when === "open-edgex" && !options.openEdgex) continue;
    const at = options.node.doors[`${name}.${door.name}`];
    if (door.when === "configured" && !at) continue;
    const key = `node.doors.${name}.${door.name}.port`;
    const host = at?.host ?? LOOPBACK;
    const open = door.protocol === "udp" ? listenUdp : listenTcp;
    const opened = keep(named(key, () => open({ host, port: at?.port ?? door.port })));
    doors[door.name] = opened;
    if (door.protocol === "both")
      doors[`${door.name}-udp`] = keep(named(key, () => listenUdp({ host, port: opened.port })));
    if (door.when === "open-edgex") withoutTls.push(opened);
  }
  // EdgeX's own port serves the contract, as `listen` does: the service need not know of it.
  const { edgex, ...others } = doors;
  return {
    listen,
    spare,
    doors: others,
    withoutTls,
    ...(edgex ? { openEdgex: edgex } : {}),
    ...(isCloud ? { control: keep(listenUnix(join(options.statePath, "cloud.sock"))) } : {}),
  };
}

/** The cloud's port is in its nodes' memory: the same as last time where that can be, and where the config does not say. */
function cloudSocket({ cloud }: SocketOptions): Listening {
  if (cloud.port !== 0) return named("node.cloud.port", () => listenTcp({ host: cloud.host, port: cloud.port }));
  try {
    return listenTcp({ host: cloud.host, port: cloud.before ?? 0 });
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== NODE_PORT_IN_USE.code) throw error;
    return listenTcp({ host: cloud.host, port: 0 });
  }
}

/** Adds to a refused port what would choose another one. */
function named<T>(key: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    if (error instanceof Failure && error.code === NODE_PORT_IN_USE.code)
      throw fail(NODE_PORT_IN_USE, `${error.message} (${key} chooses another port)`, { cause: error });
    throw error;
  }
}
