import "../../kernel/identity/reflect.ts";
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, chownSync, copyFileSync, cpSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { X509CertificateGenerator } from "@peculiar/x509";
import type { OuterInput, Seen } from "./confine.outer.ts";
import { landlockAbi } from "./landlock.ts";
import { koffiFile } from "./libc.ts";

const here = dirname(fileURLToPath(import.meta.url));
const root = process.getuid?.() === 0;
const NOBODY = 65_534;
let place = "";
let nodePath = process.execPath;
let pem: { key: string; cert: string };

/** A place that any user can read: the code under test and the native files it needs, as an installed bundle would be. */
before(async () => {
  place = mkdtempSync(join(tmpdir(), "holdfast-confine-"));
  chmodSync(place, 0o755);
  writeFileSync(join(place, "package.json"), '{"type":"module"}');
  cpSync(here, join(place, "src/node/confine"), { recursive: true });
  cpSync(join(here, "../../kernel/error.ts"), join(place, "src/kernel/error.ts"));
  copyFileSync(koffiFile(), join(place, "src/node/confine/koffi.node"));
  const sqlite = dirname(dirname(createRequire(import.meta.url).resolve("better-sqlite3-multiple-ciphers")));
  for (const part of ["lib", "prebuilds", "package.json"])
    cpSync(join(sqlite, part), join(place, "node_modules/better-sqlite3-multiple-ciphers", part), { recursive: true });
  if (root && !reachableByAll(process.execPath)) {
    nodePath = join(place, "node");
    copyFileSync(process.execPath, nodePath);
  }
  pem = await certificate();
});
after(() => rmSync(place, { recursive: true, force: true }));

/** Whether every directory down to `path` may be passed by every user; a clone in a home of mode 0700 may not. */
function reachableByAll(path: string): boolean {
  for (let at = dirname(path); at !== "/"; at = dirname(at)) if ((statSync(at).mode & 0o001) === 0) return false;
  return true;
}

async function certificate(): Promise<{ key: string; cert: string }> {
  const keys = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  const made = await X509CertificateGenerator.createSelfSigned({
    name: "CN=probe",
    keys,
    signingAlgorithm: { name: "ECDSA", hash: "SHA-256" },
    notAfter: new Date(Date.now() + 86_400_000),
  });
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
  return { key: `-----BEGIN PRIVATE KEY-----\n${pkcs8}\n-----END PRIVATE KEY-----`, cert: made.toString("pem") };
}

async function confined({
  ownUid,
  mounts = false,
  kernel,
}: { ownUid: boolean; mounts?: boolean } & Pick<OuterInput, "kernel">): Promise<Seen> {
  const user = root && !ownUid ? { uid: NOBODY, gid: NOBODY } : {};
  const work = mkdtempSync(join(tmpdir(), "holdfast-work-"));
  chmodSync(work, 0o755);
  if (user.uid !== undefined) chownSync(work, user.uid, user.gid);
  const input: OuterInput = {
    place,
    work,
    ...pem,
    ownUid,
    mounts,
    ...(kernel ? { kernel } : {}),
  };
  try {
    const outer = spawn(nodePath, [join(place, "src/node/confine/confine.outer.ts"), JSON.stringify(input)], {
      ...user,
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [said] = await Promise.all([text(outer.stdout), once(outer, "exit")]);
    return JSON.parse(said) as Seen;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const works = [
  "write own state",
  "read own state",
  "memory usage",
  "processors",
  "signal itself",
  "write /dev/null",
  "own status",
  "encrypted database",
  "worker thread",
  "tcp socket",
  "connect to a port of the plan",
];
/** Refused by the system call filter, whatever Landlock there is. */
const filtered = [
  "child_process",
  "execve /bin/true",
  "execve node",
  "execve /proc/self/exe",
  "fexecve node",
  "execveat",
  "fork",
  "raise the limit on files",
  "truncate the neighbour's file",
  "chmod the neighbour's file",
  "signal the supervisor",
  "ptrace",
  "process_vm_readv",
  "pidfd_open",
  "setns",
  "mount",
  "bpf",
  "perf_event_open",
  "io_uring_setup",
  "userfaultfd",
  "keyctl",
  "add_key",
  "open_by_handle_at",
  "personality",
  "kexec_load",
  "init_module",
  "chroot",
  "setgroups",
  "capset",
  "shmget",
  "unshare",
  "clone",
  "memfd_create",
  "setuid 0",
  "setresuid 0",
  "make its memory readable",
  "limit the supervisor",
  "type into the terminal",
  "udp socket",
  "udp6 socket",
  "icmp socket",
  "raw socket",
  "netlink socket",
  "packet socket",
  "vsock socket",
  "unix socket",
  "mptcp socket",
  "socketpair",
  "listen without an address",
  "connect by sending",
  "listen on a port",
];
/** Refused by Landlock. */
const forbiddenFiles = [
  "read the neighbour's file",
  "read /etc/shadow",
  "read /proc/1/environ",
  "read the supervisor's environ",
  "read /etc/passwd",
  "list /",
  "write outside",
  "write the neighbour's file",
  "write its own code",
];

function checkFiltered(outcomes: Seen["outcomes"]): void {
  for (const name of works) assert.equal(outcomes[name], "ok", name);
  for (const name of filtered) assert.equal(outcomes[name], "EPERM", name);
  assert.equal(outcomes["dup to the number that may be executed"], "EBADF");
  assert.equal(outcomes["fcntl to the number that may be executed"], "EINVAL");
  assert.equal(outcomes["execveat of that number"], "EBADF");
  assert.equal(outcomes["clone3"], "ENOSYS");
  assert.equal(outcomes["a call of the future"], "ENOSYS");
  if (process.arch === "x64") assert.equal(outcomes["a call of x32"], "EPERM");
}

function checkAll(seen: Seen, forbidden = /^EACCES$/): void {
  const abi = landlockAbi();
  assert.equal(seen.report.failed, undefined);
  assert.equal(seen.answer, "held", "https on the inherited socket");
  checkFiltered(seen.outcomes);
  if (abi > 0) for (const name of forbiddenFiles) assert.match(seen.outcomes[name], forbidden, name);
  if (abi >= 4) assert.equal(seen.outcomes["connect to another port"], "EACCES");
  assert.deepEqual(seen.report.absent, []);
}

test("a service with its own uid does its work and nothing else", { skip: root ? false : "needs root" }, async () => {
  const seen = await confined({ ownUid: true, mounts: true });
  checkAll(seen, /^(EACCES|ENOENT|EROFS)$/);
  assert.equal(seen.memoryOpen, false, "its memory is closed to its own uid too");
});

test("a service of an ordinary user does its work and nothing else, and the missing uid is said", async () => {
  const seen = await confined({ ownUid: false });
  assert.notEqual(seen.uid, 0);
  checkAll(seen);
  assert.ok(seen.report.missing.some(({ what }) => what === "own uid"));
});

test("on a kernel with an older Landlock, or none, the service starts, the filter holds, and what is missing is said", async () => {
  for (const abi of [0, 1]) {
    const { report, outcomes, answer } = await confined({
      ownUid: root,
      kernel: { landlockAbi: abi, closeRange: false },
    });
    assert.equal(answer, "held");
    checkFiltered(outcomes);
    assert.ok(
      report.missing.some(({ what }) => what === (abi === 0 ? "landlock" : "landlock ports")),
      `ABI ${abi}`,
    );
    if (landlockAbi() > 0) assert.equal(outcomes["list /"], abi === 0 ? "ok" : "EACCES");
  }
});
