/** Starting a service confined to its plan: the launcher is spawned, told what to do, and says how far it came. */
import { type ChildProcess, spawn, type StdioOptions } from "node:child_process";
import type { Duplex } from "node:stream";
import { once } from "node:events";
import { SAID_BYTES, SCRIPT_FD } from "./launcher.ts";
import { archOf, LibcError } from "./libc.ts";
import { type MountWay, privateMounts } from "./mounts.ts";
import { basics, confinementOf, nameBasics, type Plan } from "./plan.ts";
import { Script } from "./script.ts";
import { type Kernel, kernelOf, type Missing, type Steps, stepsOf } from "./steps.ts";

/** What became of the plan. `failed` says why the service was not started. */
export interface Report {
  service: string;
  landlockAbi: number;
  missing: Missing[];
  /** Paths that the plan itself names and that are not there (or not for this user); they stay forbidden. */
  absent: string[];
  failed?: string;
}

type StdioList = Extract<StdioOptions, unknown[]>;

export interface SpawnInput {
  plan: Plan;
  /** As for child_process.spawn, one entry a descriptor, SCRIPT_FD at most; those from 3 on that are not "ignore" reach the service. No "ipc". */
  stdio: StdioList;
  /** The file that `launcherFile` is written in. */
  launcherPath: string;
  cwd?: string;
  detached?: boolean;
  /** Told once what the machine could not give, or why the service was not started. */
  onReport?: (report: Report) => void;
  /** Rehearses an older kernel than this one. */
  kernel?: Kernel;
}

/**
 * Starts a service confined to its plan. The child's pid is the service's for its whole life. The environment is the
 * plan's alone: nothing of this process's (NODE_OPTIONS, proxies, keys) is inherited. Fails as spawn does, by "error"; a
 * plan that cannot be carried out is told by `onReport`, and the child ends with status 71.
 */
export function spawnConfined(input: SpawnInput): ChildProcess {
  const { plan, stdio, launcherPath, cwd = "/", detached = false, kernel = kernelOf(), onReport } = input;
  if (stdio.length > SCRIPT_FD) throw new Error(`a service is handed at most ${SCRIPT_FD} descriptors`);
  const handed = stdio.map((entry, fd) => (fd > 2 && entry !== "ignore" ? fd : -1)).filter((fd) => fd > 2);
  const child = spawn(launcherPath, [], {
    env: {},
    cwd,
    detached,
    stdio: [...stdio, ...Array<"ignore">(SCRIPT_FD - stdio.length).fill("ignore"), "pipe"],
  });
  const pipe = child.stdio[SCRIPT_FD as number] as Duplex | null | undefined;
  if (!pipe || child.pid === undefined) return child;
  let steps: Steps | undefined;
  let failed: string | undefined;
  try {
    steps = stepsOf({ ...plan, keepFds: [...new Set([...plan.keepFds, ...handed])] }, child.pid, kernel);
    pipe.end(steps.script.bytes());
  } catch (error) {
    // A launcher that is told nothing does nothing.
    pipe.end();
    failed = error instanceof Error ? error.message : String(error);
  }
  listenTo(pipe, (said) => {
    failed ??= failureIn(said, steps);
    onReport?.({
      service: plan.service,
      landlockAbi: kernel.landlockAbi,
      missing: steps?.missing ?? [],
      absent: (steps?.absent ?? []).filter((path) => !expected(path)),
      ...(failed === undefined ? {} : { failed }),
    });
  });
  return child;
}

/**
 * Finds out how a service can be given a file system of its own here, by trying it in a process that does nothing else: containers,
 * AppArmor and older kernels each refuse it in a way of their own. Changes nothing; undefined where there is no way.
 */
export async function mountWayOf(launcherPath: string): Promise<MountWay | undefined> {
  const way = process.geteuid?.() === 0 ? "root" : "user";
  const script = new Script(archOf());
  privateMounts(script, { ...confinementOf({ service: "", nodePath: launcherPath, script: "", codeDirs: [] }) }, way);
  script.call("exit_group", [0]);
  const stdio = [...Array<"ignore">(SCRIPT_FD).fill("ignore"), "pipe" as const];
  const child = spawn(launcherPath, [], { env: {}, cwd: "/", stdio });
  const ended = once(child, "exit");
  const pipe = child.stdio[SCRIPT_FD as number] as Duplex;
  // It may be gone before it has read all: its status tells.
  pipe.on("error", () => pipe.destroy()).resume();
  pipe.end(script.bytes());
  const [status] = (await ended) as [number | null];
  return status === 0 ? way : undefined;
}

/** What every plan names just in case; its absence is nothing to report. */
const expected = (path: string): boolean =>
  path.startsWith("/sys/fs/cgroup") || [...basics, ...nameBasics].some((it) => it.path === path);

/** Hears the launcher out: to the exec, or its own end. It never says more than two sentences. */
function listenTo(pipe: Duplex, onEnd: (said: Buffer) => void): void {
  const parts: Buffer[] = [];
  pipe.on("data", (part: Buffer) => parts.push(part));
  // An error of the pipe is its end.
  pipe.once("error", () => pipe.destroy());
  pipe.once("close", () => onEnd(Buffer.concat(parts)));
}

/** Tells which call was refused, in words; undefined if none was. */
function failureIn(said: Buffer, steps: Steps | undefined): string | undefined {
  if (said.length < SAID_BYTES || !steps) return "the launcher ended without a word";
  const last = said.subarray(said.length - SAID_BYTES);
  const address = Number(last.readBigUInt64LE(0));
  return address === 0
    ? undefined
    : new LibcError(steps.script.wordsAt(address), -Number(last.readBigInt64LE(8))).message;
}
