/**
 * A uid for each service, where the node was started as root: what one service writes no other can read, and none can look
 * into another's memory. They need no entry in /etc/passwd.
 */
import { readFileSync } from "node:fs";
import { code, fail } from "../../kernel/error.ts";

export const NODE_UID_TAKEN = code(
  "NODE_UID_TAKEN",
  "conflict",
  "Choose another range of user ids for the services (uidBase); the message names who has one of these.",
);
export const NODE_UID_RANGE = code(
  "NODE_UID_RANGE",
  "invalid",
  "Choose a base from 1000 to 65000, and run at most 100 services.",
);

/**
 * 60800 to 60899 (and, as second groups, 60900 to 60999): Debian's policy gives 60000-64999 out by a list, whose
 * entries start at 63434; systemd leaves 60706-61183 free between its greeter users and its dynamic users (61184-65519).
 * Not above 65535, since a container usually has no more ids.
 */
export const UID_BASE = 60_800;
/** Services of one node, every instance counted. */
export const UIDS_MAX = 100;
const BASE_MIN = 1000;
const BASE_MAX = 65_000;

export interface Identity {
  uid: number;
  gid: number;
  launchGid: number;
}

/** Answers the uid of a service and its two groups by its number, counted from 0. Fails with NODE_UID_RANGE. */
export function uidOf(serviceIndex: number, base: number = UID_BASE): Identity {
  if (!Number.isInteger(base) || base < BASE_MIN || base > BASE_MAX)
    throw fail(NODE_UID_RANGE, `the base ${base} of the services' user ids is not within ${BASE_MIN} to ${BASE_MAX}`);
  if (!Number.isInteger(serviceIndex) || serviceIndex < 0 || serviceIndex >= UIDS_MAX)
    throw fail(NODE_UID_RANGE, `service number ${serviceIndex} has no user id; there are ${UIDS_MAX}, counted from 0`);
  return { uid: base + serviceIndex, gid: base + serviceIndex, launchGid: base + UIDS_MAX + serviceIndex };
}

/** Lists who has a uid or gid of the range already, by /etc/passwd and /etc/group, as "name (uid 60801)". */
export function uidsTaken(
  base: number = UID_BASE,
  files: { passwd: string; group: string } = { passwd: "/etc/passwd", group: "/etc/group" },
): string[] {
  const taken = (path: string, kind: string, count: number): string[] =>
    linesOf(path).flatMap((line) => {
      const [name = "", , id = ""] = line.split(":");
      const number = Number(id);
      return id !== "" && number >= base && number < base + count ? [`${name} (${kind} ${id})`] : [];
    });
  return [...taken(files.passwd, "uid", UIDS_MAX), ...taken(files.group, "gid", 2 * UIDS_MAX)];
}

/** Makes sure that the services' user ids belong to nobody else. Fails with NODE_UID_TAKEN. */
export function requireFreeUids(base: number = UID_BASE): void {
  const taken = uidsTaken(base);
  if (taken.length > 0)
    throw fail(
      NODE_UID_TAKEN,
      `the services' user ids ${base} to ${base + UIDS_MAX - 1} are not free: ${taken.join(", ")}`,
    );
}

function linesOf(path: string): string[] {
  try {
    return readFileSync(path, "utf8").split("\n");
  } catch (error) {
    // A container image without users has no such file, so nobody has the ids.
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  }
}
