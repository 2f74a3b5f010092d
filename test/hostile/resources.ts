/** Attempts to use up the machine: threads, memory, descriptors, the room for temporary files. They come last: some end the service. */
import { closeSync, openSync, rmSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { type Attempt, systemCall } from "./attempt.ts";

const THREADS = 400;
const FILES = 10_000;
const MIB = 1024 * 1024;
/** Above all that a service may have. */
const MEMORY_MIB = 4 * 1024;
const [PROT_RW, MAP_PRIVATE_ANONYMOUS, MAP_SHARED_ANONYMOUS] = [3, 0x22, 0x21];

export const resources: readonly Attempt[] = [
  {
    name: "open files without end",
    refused: /EMFILE/,
    control: false,
    run() {
      const open: number[] = [];
      try {
        while (open.length < FILES) open.push(openSync("/dev/null", "r"));
        return `${open.length} are open`;
      } finally {
        open.forEach((fd) => closeSync(fd));
      }
    },
  },
  {
    name: "fill the room for temporary files",
    refused: /ENOSPC|EACCES|ENOENT|EROFS/,
    control: false,
    run() {
      try {
        writeFileSync("/tmp/full", Buffer.alloc(256 * MIB));
        return "256 MiB are written";
      } finally {
        rmSync("/tmp/full", { force: true });
      }
    },
  },
  {
    name: "take memory that no limit counts",
    refused: /EPERM/,
    control: false,
    run: () => systemCall("mmap", 0, 64 * MIB, PROT_RW, MAP_SHARED_ANONYMOUS, -1, 0),
  },
  {
    name: "take memory without end",
    refused: /ENOMEM/,
    control: false,
    run() {
      for (let mib = 0; mib < MEMORY_MIB; mib += 64)
        systemCall("mmap", 0, 64 * MIB, PROT_RW, MAP_PRIVATE_ANONYMOUS, -1, 0);
      return `${MEMORY_MIB} MiB are mapped`;
    },
  },
];

/** The one that ends it: Node gives up where a thread cannot be had. */
export const lastOfAll: readonly Attempt[] = [
  {
    name: "start threads without end",
    refused: /ERR_WORKER|EAGAIN|memory|Error/,
    control: false,
    async run() {
      const workers: Worker[] = [];
      for (let n = 0; n < THREADS; n++) {
        const worker = new Worker("setInterval(() => {}, 1e6)", { eval: true, stdout: true, stderr: true });
        await Promise.race([
          once(worker, "online"),
          once(worker, "error").then(([error]) => Promise.reject(error as Error)),
        ]);
        workers.push(worker);
      }
      return `${workers.length} threads run`;
    },
  },
];
