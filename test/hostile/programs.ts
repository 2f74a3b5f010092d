/** Attempts to run something that is not the service: programs of the machine, its own file again, what it wrote itself. */
import { spawnSync } from "node:child_process";
import { chmodSync, closeSync, copyFileSync, openSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Attempt, call, FILE, FILTER, systemCall } from "./attempt.ts";
import { koffiFile } from "../../src/node/confine/libc.ts";

const AT_EMPTY_PATH = 0x1000;
const PROT = { read: 1, exec: 4 };
const MAP_PRIVATE = 2;

function run(program: string, ...args: string[]): string {
  const { error, status, stdout } = spawnSync(program, args, { encoding: "utf8" });
  if (error) throw error;
  return `ended with ${status}: ${stdout.slice(0, 20)}`;
}

/** Copies a library to a place where the service may write, and answers where. */
function planted(directory: string): string {
  const path = join(directory, "planted.node");
  copyFileSync(koffiFile(), path);
  return path;
}
const loads = (directory: string) => {
  const path = planted(directory);
  try {
    process.dlopen({ exports: {} }, path);
    return `${path} is loaded`;
  } finally {
    rmSync(path);
  }
};

export const programs: readonly Attempt[] = [
  { name: "run a shell", refused: FILE, run: () => run("/bin/sh", "-c", "echo x") },
  { name: "run its own program again", refused: FILE, run: () => run(process.execPath, "--version") },
  {
    name: "run a program by its descriptor",
    refused: FILE,
    run: () => heldBy(() => systemCall("execveat", openSync("/bin/sh", "r"), "", null, null, AT_EMPTY_PATH)),
    control: false,
  },
  { name: "run itself by /proc/self/exe", refused: FILE, run: () => run("/proc/self/exe", "--version") },
  { name: "run a set-user-id program", refused: FILE, run: () => run("/bin/su", "--version") },
  {
    name: "run the loader with a program",
    refused: FILE,
    run: () => run("/lib64/ld-linux-x86-64.so.2", "/bin/true"),
    ...(process.arch === "x64" ? {} : { control: false as const }),
  },
  { name: "fork", refused: FILTER, control: false, run: () => call("fork") },
  {
    name: "write a program and run it",
    refused: FILE,
    run: ({ target }) => {
      const path = join(target.ownDirectory, "program");
      copyFileSync(join(target.codeDirectory, "launcher"), path);
      try {
        // Landlock judges no modes, so the call is refused: it runs what has the mode already.
        return run(path);
      } finally {
        rmSync(path, { force: true });
      }
    },
  },
  {
    name: "make what it wrote a program",
    refused: FILTER,
    run: ({ target }) => chmodded(join(target.ownDirectory, "mode")),
  },
  {
    name: "load a library that it wrote",
    refused: /ERR_DLOPEN_FAILED|EPERM/,
    run: ({ target }) => loads(target.ownDirectory),
  },
  { name: "load a library from /tmp", refused: /ERR_DLOPEN_FAILED|EPERM|EACCES|ENOENT/, run: () => loads("/tmp") },
  {
    name: "map what it wrote as code",
    refused: /nothing happened|EPERM|EACCES/,
    control: false,
    run: ({ target }) => {
      const path = planted(target.ownDirectory);
      const fd = openSync(path, "r");
      try {
        return `${call("mprotect", systemMap(fd), 4096, PROT.exec)}`;
      } finally {
        closeSync(fd);
        rmSync(path);
      }
    },
  },
  { name: "make a program in memory", refused: FILTER, run: () => `${systemCall("memfd_create", "x", 0)}` },
];

function heldBy(action: () => number): string {
  return `${action()}`;
}

function chmodded(path: string): string {
  closeSync(openSync(path, "w"));
  try {
    chmodSync(path, 0o755);
    return "it may be run";
  } finally {
    rmSync(path);
  }
}

/** Maps a page of the file as code; the kernel says EPERM on a file system without programs. */
const systemMap = (fd: number): bigint =>
  BigInt(systemCall("mmap", 0, 4096, PROT.read | PROT.exec, MAP_PRIVATE, fd, 0));
