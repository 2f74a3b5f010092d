/** Plays the supervisor for the tests, as whichever user it is started: confines the probe, asks it over https, tells what it saw. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, mkdirSync, writeFileSync } from "node:fs";
import { get } from "node:https";
import { createServer, type AddressInfo, type Server } from "node:net";
import { dirname, join } from "node:path";
import type { Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import type { Outcomes, ProbeInput } from "./confine.probe.ts";
import { launcherFile } from "./launcher.ts";
import { archOf } from "./libc.ts";
import { listenTcp } from "./listen.ts";
import { confinementOf } from "./plan.ts";
import { mountWayOf, type Report, spawnConfined } from "./spawn.ts";
import { type Kernel, kernelOf } from "./steps.ts";
import { uidOf } from "./uids.ts";

export interface OuterInput {
  place: string;
  work: string;
  key: string;
  cert: string;
  ownUid: boolean;
  /** Whether it gets a file system of its own, where the machine allows that; without, Landlock is all that guards files. */
  mounts: boolean;
  /** What an older kernel has. */
  kernel?: Partial<Kernel>;
}
export interface Seen {
  report: Report;
  outcomes: Outcomes;
  answer: string;
  uid: number;
  /** Whether a program of the service's user that is not confined can open the service's memory. */
  memoryOpen: boolean;
}

const FILES_MAX = 500;
const PEEK = "require('node:fs').closeSync(require('node:fs').openSync(`/proc/${process.argv[1]}/mem`, 'r'))";

/** Tries to open the memory of a process, as its own user. */
async function memoryOpen(pid: number, user: { uid?: number; gid?: number }): Promise<boolean> {
  const [exit] = (await once(
    spawn(process.execPath, ["-e", PEEK, String(pid)], { ...user, stdio: "ignore" }),
    "exit",
  )) as [number];
  return exit === 0;
}

async function listening(): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1");
  await once(server, "listening");
  return { server, port: (server.address() as AddressInfo).port };
}

/** Makes the probe's own directory, and a neighbour's: open to all by owner and mode, so that only the confinement is in the way. */
function furnish(work: string): { stateDir: string; neighbourFile: string } {
  const [stateDir, neighbour] = [join(work, "own"), join(work, "neighbour")];
  for (const directory of [stateDir, neighbour]) mkdirSync(directory, { mode: 0o700 });
  const neighbourFile = join(neighbour, "secret");
  writeFileSync(neighbourFile, "secret");
  chmodSync(neighbour, 0o777);
  chmodSync(neighbourFile, 0o666);
  return { stateDir, neighbourFile };
}

const ask = (port: number): Promise<string> =>
  new Promise((resolve, reject) =>
    get({ port, rejectUnauthorized: false, agent: false }, (response) => resolve(text(response))).once("error", reject),
  );

async function run({ place, work, key, cert, ownUid, mounts, kernel }: OuterInput): Promise<Seen> {
  const { stateDir, neighbourFile } = furnish(work);
  const identity = ownUid ? uidOf(99) : {};
  if (ownUid) chownSync(stateDir, uidOf(99).uid, uidOf(99).gid);
  const [allowed, other] = [await listening(), await listening()];
  const socket = listenTcp({ host: "127.0.0.1", port: 0 });
  const here = dirname(fileURLToPath(import.meta.url));
  const plan = confinementOf({
    service: "probe",
    ...identity,
    nodePath: process.execPath,
    script: join(here, "confine.probe.ts"),
    codeDirs: [place],
    stateDir,
    // /proc by path, where the user is shared: then Landlock's rule on other processes is all that stands before their memory.
    read: ownUid ? [] : ["/proc"],
    connectPorts: [allowed.port],
    filesMax: FILES_MAX,
  });
  const launcherPath = join(work, "launcher");
  writeFileSync(launcherPath, launcherFile(archOf()), { mode: 0o700 });
  const reported = Promise.withResolvers<Report>();
  const child = spawnConfined({
    plan,
    stdio: ["ignore", "pipe", "inherit", socket.fd, "pipe"],
    launcherPath,
    kernel: { ...kernelOf(), mounts: mounts ? await mountWayOf(launcherPath) : undefined, ...kernel },
    onReport: reported.resolve,
  });
  const input: ProbeInput = {
    key,
    cert,
    stateDir,
    neighbourFile,
    allowedPort: allowed.port,
    otherPort: other.port,
    filesMax: FILES_MAX,
  };
  (child.stdio[4] as Writable).end(JSON.stringify(input));
  // Asked before the service is up: the question waits in the backlog.
  const answer = ask(socket.port);
  const [outcomes] = (await once(child.stdout ?? process.stdin, "data")) as [Buffer];
  const open = await memoryOpen(child.pid ?? 0, ownUid ? { uid: uidOf(99).uid, gid: uidOf(99).gid } : {});
  const seen: Seen = {
    report: await reported.promise,
    outcomes: JSON.parse(String(outcomes)) as Outcomes,
    answer: await answer,
    uid: process.getuid?.() ?? -1,
    memoryOpen: open,
  };
  child.kill("SIGKILL");
  await once(child, "exit");
  allowed.server.close();
  other.server.close();
  return seen;
}

if (import.meta.main) {
  const input = JSON.parse(process.argv[2] ?? "") as OuterInput;
  process.stdout.write(JSON.stringify(await run(input)), () => process.exit(0));
}
