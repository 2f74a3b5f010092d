/** Attempts on files: others' secrets, the machine's, its own code, and what lies beneath all files. */
import {
  closeSync,
  constants,
  fstatSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type Attempt, call, FILE, systemCall, type Target } from "./attempt.ts";

const { O_RDWR } = constants;
const AT_FDCWD = -100;
/** Opens for writing and writes nothing. */
const openToWrite = (path: string): string => {
  closeSync(openSync(path, O_RDWR));
  return `${path} is open for writing`;
};
const read = (path: string): string => `${readFileSync(path).length + 1} bytes of ${path}`;
const list = (path: string): string => `the names in ${path}: ${readdirSync(path).length}`;

const FILES = [
  "a neighbour's file",
  "the key file",
  "the wrapped keys",
  "the config",
  "a program's file in /tmp",
] as const;
const ofEach = FILES.flatMap((what): Attempt[] => [
  { name: `read ${what}`, refused: FILE, run: ({ target }) => read(target.files[what]) },
  { name: `write ${what}`, refused: FILE, run: ({ target }) => openToWrite(target.files[what]) },
]);

const MACHINE = ["/etc/shadow", "/etc/passwd", "/etc/hostname"];
const ofMachine = MACHINE.map((path): Attempt => ({ name: `read ${path}`, refused: FILE, run: () => read(path) }));

/** Reads through a name of its own for another's file. */
function through(target: Target, make: (name: string) => void): string {
  const name = join(target.ownDirectory, "alias");
  rmSync(name, { force: true });
  try {
    make(name);
    return read(name);
  } finally {
    rmSync(name, { force: true });
  }
}

export const files: readonly Attempt[] = [
  ...ofEach,
  ...ofMachine,
  ...["/", "/home", "/root", "/etc", "/proc", "/dev", "/sys"].map((path): Attempt => ({
    name: `list ${path}`,
    refused: FILE,
    run: () => list(path),
  })),
  {
    name: "list the state directory",
    refused: /nothing happened|EACCES/,
    // In a file system of its own it may see where its own directory lies.
    run: ({ target }) => readdirSync(target.directories["state"]).find((name) => !target.ownDirectory.endsWith(name)),
  },
  { name: "list a neighbour's directory", refused: FILE, run: ({ target }) => list(target.directories["neighbour"]) },
  {
    name: "find what other programs keep in /tmp",
    refused: /nothing happened|EACCES/,
    run: ({ target }) =>
      readdirSync("/tmp").find((name) => target.files["a program's file in /tmp"].startsWith(`/tmp/${name}/`)),
  },
  {
    name: "leave a file for others in /tmp, /var/tmp, /run, /dev/shm",
    refused: FILE,
    control: false, // Each may be written here; that nobody else sees the one in /tmp is the test's to look at.
    run: () => {
      for (const path of ["/var/tmp", "/run", "/dev/shm"]) writeFileSync(join(path, "holdfast-hostile"), "x");
      return "written";
    },
  },
  {
    name: "write its own code",
    refused: FILE,
    run: ({ target }) => openToWrite(join(target.codeDirectory, "main.js")),
  },
  {
    name: "put code beside its own",
    refused: FILE,
    run({ target }) {
      const made = join(target.codeDirectory, "made");
      mkdirSync(made);
      rmSync(made, { recursive: true });
      return "made";
    },
  },
  {
    name: "write the launcher",
    refused: FILE,
    run: ({ target }) => openToWrite(join(target.codeDirectory, "launcher")),
  },
  {
    name: "read the key file through a symbolic link",
    refused: FILE,
    run: ({ target }) => through(target, (name) => symlinkSync(target.files["the key file"], name)),
  },
  {
    name: "read the wrapped keys through a hard link",
    refused: /EACCES|EPERM|ENOENT|EROFS|EXDEV/,
    run: ({ target }) => through(target, (name) => linkSync(target.files["the wrapped keys"], name)),
  },
  {
    name: "read the key file through /proc/self/root",
    refused: FILE,
    run: ({ target }) => read(`/proc/self/root${target.files["the key file"]}`),
  },
  {
    name: "read the key file through the supervisor's root",
    refused: FILE,
    run: ({ target }) => read(`/proc/${target.supervisorPid}/root${target.files["the key file"]}`),
  },
  {
    name: "move a neighbour's directory away",
    refused: /EACCES|EPERM|ENOENT|EROFS|EXDEV/,
    control: false,
    run: ({ target }) => {
      renameSync(target.directories["neighbour"], join(target.ownDirectory, "taken"));
      return "moved";
    },
  },
  {
    name: "cut a neighbour's file short",
    refused: FILE,
    control: false,
    run: ({ target }) => truncateSync(target.files["a neighbour's file"], 0) ?? "cut",
  },
  {
    name: "open a neighbour's file to all",
    refused: FILE,
    control: false,
    run: ({ target }) => `${systemCall("fchmodat", AT_FDCWD, target.files["a neighbour's file"], 0o777)}`,
  },
  {
    name: "keep a descriptor of the supervisor's",
    refused: /nothing happened/,
    run: ({ target, context }) => {
      const found = readdirSync("/proc/self/fd")
        .map((fd) => linkOf(fd))
        .filter((to) => to.startsWith("/"));
      // What it runs from and what it keeps is its own. The control has one of a file of the machine.
      const strange = found.filter(
        (to) => ![target.ownDirectory, target.codeDirectory, "/proc/", "/dev/null"].some((own) => to.startsWith(own)),
      );
      return context ? strange[0] : openStrange(target);
    },
  },
  {
    name: "read the disk beneath all files",
    refused: FILE,
    control: false, // In a container, and some virtual machines, root cannot either.
    run: () => `${fstatSync(openSync(rawDisk(), "r")).rdev} is open`,
  },
  { name: "read the machine's memory", refused: FILE, control: false, run: () => read("/dev/mem") },
  { name: "read the kernel's log", refused: FILE, run: () => `${openSync("/dev/kmsg", "r")} is open` },
  { name: "reach the TPM", refused: FILE, control: false, run: () => `${openSync("/dev/tpmrm0", "r+")} is open` },
  {
    name: "open a file by a handle, past all paths",
    refused: /EPERM/,
    control: false,
    run: () => systemCall("open_by_handle_at", AT_FDCWD, Buffer.alloc(64), 0),
  },
  {
    name: "make a device of its own",
    refused: FILE,
    run: ({ target }) => {
      const name = join(target.ownDirectory, "disk");
      systemCall("mknodat", AT_FDCWD, name, 0o060_600, 0x101);
      rmSync(name);
      return "made";
    },
  },
  { name: "become the root of another file system", refused: FILE, run: () => `${call("chroot", "/")}` },
];

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return ""; // that of the listing itself
  }
}

function openStrange(target: Target): string {
  closeSync(openSync(target.files["the key file"], "r"));
  return "as the supervisor itself";
}

/** Any disk of the machine that is a device. */
const rawDisk = (): string => {
  for (const name of ["vda", "sda", "nvme0n1", "mmcblk0", "loop0"]) {
    try {
      closeSync(openSync(`/dev/${name}`, "r"));
      return `/dev/${name}`;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  throw Object.assign(new Error("no disk is seen"), { code: "ENOENT" });
};
