/** The disk below the state directory: its room, and what sort of disk it is. */
import { statfsSync } from "node:fs";
import { size } from "../units.ts";
import { fine, type Finding, lacks, stops } from "./finding.ts";
import { existing } from "./home.ts";

/** The node does not start below the first, and journals and stores fill up to the second by their default limits. */
const ROOM_BYTES_MIN = 16 * 1024 * 1024;
const ROOM_BYTES_GOOD = 4_000_000_000;
const INODES_MIN = 1_000;

type Kind = "memory" | "network" | "ownerless";

/** What statfs(2) calls them. */
const KINDS = new Map<number, { name: string; kind: Kind }>([
  [0x0102_1994, { name: "tmpfs", kind: "memory" }],
  [0x8584_58f6, { name: "ramfs", kind: "memory" }],
  [0x6969, { name: "NFS", kind: "network" }],
  [0xff53_4d42, { name: "CIFS", kind: "network" }],
  [0xfe53_4d42, { name: "SMB", kind: "network" }],
  [0x4d44, { name: "FAT", kind: "ownerless" }],
  [0x2011_bab0, { name: "exFAT", kind: "ownerless" }],
]);

const KIND_WORDS: {
  readonly [kind in Kind]: { readonly says: string; readonly costs: string; readonly todo: string };
} = {
  memory: {
    says: "the state directory lies in memory",
    costs: "everything is gone when the machine is turned off.",
    todo: "Choose a directory on a disk with HOLDFAST_STATE or --state.",
  },
  network: {
    says: "the state directory lies on another machine",
    costs: "what is said to be on the disk is there only as far as that machine keeps its word.",
    todo: "Choose a directory on a disk of this machine.",
  },
  ownerless: {
    says: "the file system below the state directory knows no owners",
    costs: "services are not kept out of each other's files by owner.",
    todo: "Use ext4, xfs, btrfs or f2fs.",
  },
};

export interface DiskFacts {
  readonly type: number;
  readonly bsize: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
}

/** Looks at the disk below the state directory; `stat` is statfs(2). */
export function diskFindings(path: string, stat: (path: string) => DiskFacts = statfsSync): Finding[] {
  const facts = stat(existing(path));
  return [roomOf(path, facts), ...inodesOf(path, facts), ...kindOf(facts)];
}

function roomOf(path: string, { bsize, bavail }: DiskFacts): Finding {
  const bytes = bavail * bsize;
  const says = `${size(bytes)} free on the disk of ${path}`;
  if (bytes < ROOM_BYTES_MIN) return stops("disk", says, "Free some space: the node needs 16 MiB to start.");
  if (bytes >= ROOM_BYTES_GOOD) return fine("disk", says);
  return lacks(
    "disk",
    says,
    "by their default limits the stores grow to about 3.2 GB, a cloud beside the node further; on a full disk new events are refused, and devices keep them.",
    "Give it more room, or lower the limits (core-data.sizeBytesMax, bus.sizeBytesMax, pipeline.outboxBytesMax).",
  );
}

function inodesOf(path: string, { files, ffree }: DiskFacts): Finding[] {
  // btrfs and others make inodes as they go, and say 0 of both.
  if (files === 0 || ffree >= INODES_MIN) return [];
  const says = `only ${ffree} more files can be made on the disk of ${path}`;
  return [lacks("inodes", says, "journals begin new files.", "Remove small files that nobody needs.")];
}

function kindOf({ type }: DiskFacts): Finding[] {
  const found = KINDS.get(type);
  if (!found) return [];
  const { says, costs, todo } = KIND_WORDS[found.kind];
  return [lacks("disk-kind", `${says} (${found.name})`, costs, todo)];
}
