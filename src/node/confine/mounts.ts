/**
 * A file system of the service's own: the machine's is read-only, what it writes holds no programs, and /tmp, /run and /var/tmp
 * are empty but for what its plan names. It needs a mount namespace: root's, or that of a user namespace where the machine
 * gives these to everybody.
 */
import { lstatSync, realpathSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Plan } from "./plan.ts";
import type { Result, Script } from "./script.ts";

/** Who makes the namespace: root itself, or a user namespace of the process. */
export type MountWay = "root" | "user";

// linux/sched.h, linux/mount.h, linux/fcntl.h.
const CLONE_NEWNS = 0x0002_0000;
const CLONE_NEWUSER = 0x1000_0000;
const MS = { nosuid: 2, nodev: 4, noexec: 8, rec: 0x4000, slave: 0x8_0000 };
const MOUNT_ATTR = { rdonly: 1, nosuid: 2, nodev: 4, noexec: 8 };
const OPEN_TREE_CLONE = 1;
const O_CLOEXEC = 0x8_0000;
const O_WRONLY = 1;
const O_CREAT_EXCL = 0o300;
const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const AT_RECURSIVE = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
/** struct mount_attr: attr_set, attr_clr, propagation, userns_fd. */
const MOUNT_ATTR_BYTES = 32;

/** The one place for temporary files; it goes with the process. */
export const TEMPORARY = "/tmp";
/** Past it writes fail with ENOSPC, and so many files are possible; it is memory, and counts for nothing until it is used. */
const TEMPORARY_BYTES_MAX = 16 * 1024 * 1024;
const TEMPORARY_FILES_MAX = 1_024;
/** Where the machine's programs leave sockets and files for each other. */
const SHARED = [TEMPORARY, "/run", "/var/tmp", "/dev/shm"];

/** Gives the process its own file system. Comes before all that opens a path, and before the drop of what it needs. */
export function privateMounts(script: Script, plan: Plan, way: MountWay): void {
  if (way === "root") script.call("unshare", [CLONE_NEWNS], "unshare(mounts)");
  else becomeNamespaceRoot(script);
  // A medium that the machine unmounts goes from here, too; what is mounted here the machine never sees.
  script.call("mount", [0, script.text("/"), 0, MS.rec | MS.slave, 0], "mount(slave)");
  const shared = SHARED.filter((path) => isPlainDirectory(path));
  const writes = treesOf(plan.write).filter((path) => !isDevice(path));
  const hidden = treesOf([...plan.read, ...(plan.argv[0] === undefined ? [] : [plan.argv[0]])]).filter(
    (path) => shared.some((at) => isBelow(path, at)) && !writes.some((at) => isBelow(path, at)),
  );
  const trees = [
    ...writes.map((path) => ({ path, tree: treeAt(script, path, ["nosuid", "nodev", "noexec"]) })),
    ...hidden.map((path) => ({ path, tree: treeAt(script, path, ["rdonly", "nosuid", "nodev"]) })),
  ];
  restrict(script, [AT_FDCWD, script.text("/"), AT_RECURSIVE], ["rdonly", "nosuid"]);
  for (const path of shared) empty(script, path, plan);
  for (const { path, tree } of trees) {
    for (const at of shared) if (isBelow(path, at)) makePlace(script, path, at);
    const flags = MOVE_MOUNT_F_EMPTY_PATH;
    script.call("move_mount", [tree, script.text(""), AT_FDCWD, script.text(path), flags], `move_mount(${path})`);
    script.call("close", [tree]);
  }
  for (const path of shared) if (path !== TEMPORARY) restrict(script, [AT_FDCWD, script.text(path), 0], ["rdonly"]);
}

/** Makes a user namespace in which the process has its own ids, and for the moment what a mount takes (user_namespaces(7)). */
function becomeNamespaceRoot(script: Script): void {
  const [uid, gid] = [process.geteuid?.() ?? 0, process.getegid?.() ?? 0];
  script.call("unshare", [CLONE_NEWUSER | CLONE_NEWNS], "unshare(user, mounts)");
  for (const [file, text] of [
    ["setgroups", "deny"],
    ["uid_map", `${uid} ${uid} 1`],
    ["gid_map", `${gid} ${gid} 1`],
  ] as const) {
    const words = `write(${file})`;
    const fd = script.call("openat", [AT_FDCWD, script.text(`/proc/self/${file}`), O_WRONLY, 0], words);
    script.call("write", [fd, script.text(text), text.length], words);
    script.call("close", [fd]);
  }
}

/** Takes a tree of the machine's files as it is now, to put it into the new file system later. */
function treeAt(script: Script, path: string, attributes: readonly (keyof typeof MOUNT_ATTR)[]): Result {
  const flags = OPEN_TREE_CLONE | O_CLOEXEC | AT_RECURSIVE;
  const tree = script.call("open_tree", [AT_FDCWD, script.text(path), flags], `open_tree(${path})`);
  restrict(script, [tree, script.text(""), AT_EMPTY_PATH | AT_RECURSIVE], attributes);
  return tree;
}

function restrict(
  script: Script,
  where: Parameters<Script["call"]>[1],
  attributes: readonly (keyof typeof MOUNT_ATTR)[],
): void {
  const set = attributes.reduce((bits, name) => bits | MOUNT_ATTR[name], 0);
  script.call("mount_setattr", [...where, script.memory([set, 0, 0, 0]), MOUNT_ATTR_BYTES]);
}

/** Lays an empty file system in memory over a directory of the machine. */
function empty(script: Script, path: string, plan: Plan): void {
  const own = path === TEMPORARY;
  const owner = plan.uid === undefined ? "" : `,uid=${plan.uid},gid=${plan.gid ?? plan.uid}`;
  const options = `size=${own ? TEMPORARY_BYTES_MAX : 4096 * 16},nr_inodes=${TEMPORARY_FILES_MAX},mode=${own ? "0700" : "0755"}`;
  const [type, data] = [script.text("tmpfs"), script.text(`${options}${own ? owner : ""}`)];
  const flags = MS.nosuid | MS.nodev | MS.noexec;
  script.call("mount", [type, script.text(path), type, flags, data], `mount(tmpfs on ${path})`);
}

/** Makes what a tree is mounted on, below an emptied directory: what is there already is of no account. */
function makePlace(script: Script, path: string, below: string): void {
  const parents: string[] = [];
  for (let at = dirname(path); at !== below; at = dirname(at)) parents.unshift(at);
  for (const at of parents) script.attempt("mkdirat", [AT_FDCWD, script.text(at), 0o711]);
  if (statSync(path).isDirectory()) return script.attempt("mkdirat", [AT_FDCWD, script.text(path), 0o711]);
  const file = script.call("openat", [AT_FDCWD, script.text(path), O_WRONLY | O_CREAT_EXCL, 0o644], `place(${path})`);
  script.call("close", [file]);
}

/** The places themselves, each once, none within another. */
function treesOf(paths: readonly string[]): string[] {
  const real = new Set(paths.flatMap((path) => placeOf(path) ?? []));
  return [...real].filter((path) => ![...real].some((other) => other !== path && isBelow(path, other)));
}

/** Follows links, as a mount would; undefined where nothing is, or nothing for this user: it stays forbidden. */
function placeOf(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

const isBelow = (path: string, at: string): boolean => path === at || path.startsWith(join(at, "/"));
const isDevice = (path: string): boolean => statSync(path).isCharacterDevice() || statSync(path).isBlockDevice();
const isPlainDirectory = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
