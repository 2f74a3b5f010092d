/**
 * The state directory: where it is, whose it is, which version wrote it, and that one node alone runs on it. Everything
 * that can be wrong with it is said before any service starts.
 */
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  fsyncSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  type Stats,
  statfsSync,
  writeSync,
} from "node:fs";
import { homedir, hostname } from "node:os";
import { join, resolve } from "node:path";
import { Failure, fail } from "../kernel/error.ts";
import { NODE_STATE_FULL, NODE_STATE_LOCKED, NODE_STATE_NEWER, NODE_STATE_UNUSABLE } from "./codes.ts";
import { attempt, LibcError } from "./confine/libc.ts";

/** Raised when an older Holdfast would damage what a newer one wrote. */
export const STATE_FORMAT = 1;
/** Below this no service gets through its start: journals and databases are laid out before anything is in them. */
const FREE_BYTES_MIN = 16 * 1024 * 1024;
/** Longest path of a Unix socket (sun_path, 108 bytes with its NUL), less the longest name in the directory. */
const PATH_BYTES_MAX = 107 - "/control.sock".length;
const LOCK_EXCLUSIVE_NOW = 2 | 4;

/** What is kept about the node itself, in node.json. */
export interface NodeFile {
  readonly format: number;
  readonly version: string;
  readonly name: string;
  readonly createdAtMs: number;
  /** Of the cloud beside the node: chosen at the first start and kept, since the pipeline remembers it. */
  readonly cloudPort?: number;
  /** Number of each service's own uid (confine/uids.ts), where the node runs as root: files belong to it for ever. */
  readonly uids?: Readonly<Record<string, number>>;
}

export interface StateDirectory {
  readonly path: string;
  readonly node: NodeFile;
  /** No node ran on it before. */
  readonly fresh: boolean;
  /** Changes node.json. */
  save(change: Partial<NodeFile>): void;
  /** Gives the directory free for another node. */
  release(): void;
}

/** Tells the state directory: HOLDFAST_STATE, else /var/lib/holdfast as root, else below XDG_STATE_HOME or ~/.local/state. */
export function stateDirectoryOf(env: NodeJS.ProcessEnv, asRoot = process.geteuid?.() === 0): string {
  if (env["HOLDFAST_STATE"]) return resolve(env["HOLDFAST_STATE"]);
  if (asRoot) return "/var/lib/holdfast";
  return join(env["XDG_STATE_HOME"] || join(env["HOME"] || homedir(), ".local", "state"), "holdfast");
}

/**
 * Opens the state directory, making it where there is none, and locks it until `release` or the end of this process.
 * NODE_STATE_UNUSABLE, NODE_STATE_LOCKED, NODE_STATE_NEWER, NODE_STATE_FULL.
 */
export function openState(options: { path: string; version: string; name?: string }): StateDirectory {
  const { path } = options;
  if (Buffer.byteLength(path) > PATH_BYTES_MAX)
    throw fail(
      NODE_STATE_UNUSABLE,
      `the path of the state directory ${path} is longer than ${PATH_BYTES_MAX} bytes, too long for a Unix socket in it`,
    );
  makeDirectory(path);
  const lock = guarded(path, () => takeLock(path));
  try {
    const found = readNodeFile(path);
    if (found && found.format > STATE_FORMAT) {
      throw fail(
        NODE_STATE_NEWER,
        `the state directory ${path} was written by Holdfast ${found.version} (format ${found.format}); this is ${options.version} (format ${STATE_FORMAT})`,
      );
    }
    const { bavail, bsize } = statfsSync(path);
    if (bavail * bsize < FREE_BYTES_MIN)
      throw fail(
        NODE_STATE_FULL,
        `the disk of ${path} has ${Math.floor((bavail * bsize) / 1024)} KiB left; the node needs ${FREE_BYTES_MIN / 1024 / 1024} MiB to start`,
      );
    let node: NodeFile = {
      ...(found ?? { name: options.name ?? nameOfMachine(), createdAtMs: Date.now() }),
      format: STATE_FORMAT,
      version: options.version,
    };
    const save = (change: Partial<NodeFile>): void => {
      node = { ...node, ...change };
      guarded(path, () => writeNodeFile(path, node));
    };
    // A copy that is not there, or not like the other, is written anew.
    if (!found || found.version !== options.version || !haveAll(path)) save({});
    return {
      path,
      fresh: !found,
      get node() {
        return node;
      },
      save,
      release: () => closeSync(lock),
    };
  } catch (error) {
    closeSync(lock);
    throw error;
  }
}

function makeDirectory(path: string): void {
  const asRoot = process.geteuid?.() === 0;
  // As root each service has an own uid and must get through to its own subdirectory, but list nothing.
  const mode = asRoot ? 0o711 : 0o700;
  guarded(path, () => mkdirSync(path, { recursive: true, mode }));
  const at = guarded<Stats>(path, () => lstatSync(path));
  if (at.isSymbolicLink())
    throw fail(NODE_STATE_UNUSABLE, `the state directory ${path} is a symbolic link; name the directory itself`);
  if (!at.isDirectory()) throw fail(NODE_STATE_UNUSABLE, `${path} is not a directory`);
  if (at.uid !== process.geteuid?.())
    throw fail(
      NODE_STATE_UNUSABLE,
      `the state directory ${path} belongs to uid ${at.uid}, and the node runs as uid ${process.geteuid?.()}`,
    );
  // Open to others, or (made by hand) closed to the services' own uids.
  const closed = asRoot && (at.mode & 0o011) !== 0o011;
  if ((at.mode & 0o777 & ~mode) !== 0 || closed) guarded(path, () => chmodSync(path, mode));
}

/** Runs what touches the directory, and says in the node's words what the file system refused. */
function guarded<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    const reason = (cause as NodeJS.ErrnoException).code ?? "unknown";
    if (reason === "ENOSPC" || reason === "EDQUOT")
      throw fail(NODE_STATE_FULL, `the disk of the state directory ${path} is full (${reason})`, { cause });
    const words: Record<string, string> = {
      EROFS: "is on a read-only file system",
      EACCES: "may not be written by this user",
      EPERM: "may not be changed by this user",
      ENOTDIR: "lies below something that is not a directory",
      EEXIST: "is not a directory",
    };
    throw fail(NODE_STATE_UNUSABLE, `the state directory ${path} ${words[reason] ?? "cannot be used"} (${reason})`, {
      cause,
    });
  }
}

/** Locks with flock(2): the kernel gives it free with the process, however that ends, so that no stale lock is ever in the way. */
function takeLock(path: string): number {
  const fd = openSync(join(path, "lock"), constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  const result = attempt("flock", fd, LOCK_EXCLUSIVE_NOW);
  if (result < 0) {
    const holder = Buffer.alloc(32);
    const pid = holder.toString("latin1", 0, readSync(fd, holder, 0, 32, 0)).trim();
    closeSync(fd);
    const error = new LibcError("flock", -result);
    if (error.symbol === "EAGAIN" || error.symbol === "EWOULDBLOCK")
      throw fail(
        NODE_STATE_LOCKED,
        `a node already runs on the state directory ${path}${pid ? ` (process ${pid})` : ""}`,
      );
    throw fail(NODE_STATE_UNUSABLE, `the state directory ${path} cannot be locked: ${error.message}`, { cause: error });
  }
  ftruncateSync(fd);
  writeSync(fd, `${process.pid}\n`, 0);
  return fd;
}

/** Written one after the other, so that a disk that damages one of them costs nothing. */
const NODE_FILES = ["node.json", "node.json.bak"] as const;

/** Reads the file, or its copy; undefined where neither is there. */
function readNodeFile(path: string): NodeFile | undefined {
  let damaged = false;
  for (const name of NODE_FILES) {
    let text: string;
    try {
      text = readFileSync(join(path, name), "utf8");
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "ENOENT") continue;
      throw fail(NODE_STATE_UNUSABLE, `${join(path, name)} cannot be read`, { cause });
    }
    const file = parsed(text);
    if (file) return file;
    damaged = true;
  }
  if (!damaged) return undefined;
  throw fail(
    NODE_STATE_UNUSABLE,
    `${join(path, "node.json")} and its copy are damaged; put one back from a backup, or write {"format":${STATE_FORMAT},"version":"","name":"NAME OF THE NODE","createdAtMs":0} into it`,
  );
}

/** Tells whether all copies say the same. */
function haveAll(path: string): boolean {
  try {
    return new Set(NODE_FILES.map((name) => readFileSync(join(path, name), "utf8"))).size === 1;
  } catch {
    // One cannot be read: the other was.
    return false;
  }
}

function parsed(text: string): NodeFile | undefined {
  try {
    const file = JSON.parse(text) as NodeFile | null;
    return Number.isInteger(file?.format) && typeof file?.name === "string" ? file : undefined;
  } catch {
    // It is written whole or not at all: what does not parse was damaged by the disk.
    return undefined;
  }
}

function writeNodeFile(path: string, node: NodeFile): void {
  for (const name of NODE_FILES) {
    const aside = join(path, `${name}.new`);
    const fd = openSync(aside, "w", 0o600);
    try {
      writeSync(fd, `${JSON.stringify(node)}\n`);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(aside, join(path, name));
  }
  const directory = openSync(path, "r");
  fsyncSync(directory);
  closeSync(directory);
}

/** Names the node after the machine, with four random digits: many machines are called `debian`, and a cloud tells its nodes by name. */
function nameOfMachine(): string {
  const host = hostname()
    .split(".", 1)[0]
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-+|-+$/g, "")
    .slice(0, 50);
  return `${host || "node"}-${randomBytes(2).toString("hex")}`;
}
