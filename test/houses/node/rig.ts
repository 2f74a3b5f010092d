/** What the supervisor's tests stand on: a small node as a real process, its control socket, and the test service's door. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { makeCall } from "../../../src/kernel/call.ts";
import { connect, type Target } from "../../../src/kernel/connect.ts";
import { type Node, node as nodeContract } from "../../../src/node/api.ts";
import { type Code, prepareCode } from "../../../src/node/code.ts";
import { NODE_FLAGS } from "../../../src/node/flags.ts";
import { freePort } from "../ports.ts";
import { type TestService, testService } from "./api.ts";

const ROOT = join(import.meta.dirname, "../../..");
const WAIT_MS = 60_000;

export interface Place {
  /** The state directory; not there yet. */
  readonly state: string;
  readonly keyFile: string;
  readonly config: string;
  readonly doorPort: number;
  remove(): void;
}

/** Makes a place for a node: a free port for the door, a key file beside the state. `more` are further lines of the config. */
export function makePlace(more = "", door = "test-service.plain"): Place {
  const directory = openTo(mkdtempSync(join(tmpdir(), "holdfast-node-")));
  const port = freePort();
  const keyFile = join(directory, "key", "node.key");
  const config = join(directory, "holdfast.yaml");
  writeFileSync(config, `node:\n  keyFile: ${keyFile}\n  doors: { ${door}: { port: ${port} } }\n${more}`);
  return {
    state: join(directory, "s"),
    keyFile,
    config,
    doorPort: port,
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

let made: Promise<Code> | undefined;
let cache: string | undefined;

/** The tests' bundle, made once for a test file; `removeCode` removes it. `house` is its composition root. */
export function testCode(house = "house.ts"): Promise<Code> {
  cache ??= openTo(mkdtempSync(join(tmpdir(), "holdfast-code-")));
  made ??= prepareCode({ root: ROOT, entry: join(import.meta.dirname, house), cache });
  return made;
}
export function removeCode(): void {
  if (cache) rmSync(cache, { recursive: true, force: true });
}

export interface RunningNode {
  readonly child: ChildProcess;
  readonly control: Node;
  readonly door: TestService;
  /** All that it wrote so far, standard output and error. */
  output(): string;
  /** Waits until it wrote this. */
  wrote(pattern: RegExp): Promise<void>;
  /** Resolves with its exit status, or the signal it ended by. */
  readonly ended: Promise<number | string>;
  /** The processes of its services, by service. */
  pids(): Promise<Map<string, number>>;
  close(): void;
}

/** Starts a node, as another user where one is given. */
export async function startNode(
  place: Place,
  args: readonly string[] = [],
  user: { uid?: number; gid?: number } = {},
): Promise<RunningNode> {
  const code = await testCode();
  const child = spawn(
    process.execPath,
    [...NODE_FLAGS, code.main, "node", "--state", place.state, "--config", place.config, ...args],
    { ...user, stdio: ["ignore", "pipe", "pipe"] },
  );
  let text = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (part: string) => (text += part));
  const ended = once(child, "close").then(([status, signal]) => (status ?? signal) as number | string);
  const agents = [new Agent({ keepAlive: true }), new Agent({ keepAlive: true })] as const;
  const clientOf = <C extends typeof nodeContract | typeof testService>(contract: C, target: Omit<Target, "secure">) =>
    connect(contract, { resolver: { pick: () => ({ ...target, secure: false }), failed: () => undefined } });
  const control = clientOf(nodeContract, {
    host: "",
    port: 0,
    socketPath: join(place.state, "control.sock"),
    agent: agents[0],
  }) as Node;
  return {
    child,
    control,
    door: clientOf(testService, { host: "127.0.0.1", port: place.doorPort, agent: agents[1] }),
    output: () => text,
    wrote: (pattern) =>
      until(
        () => pattern.test(text),
        () => `'${pattern.source}' in what the node wrote:\n${text}`,
      ),
    ended,
    async pids() {
      const { services } = await control.status({}, call());
      return new Map(services.map(({ service, pid }) => [service, pid]));
    },
    close: () => {
      for (const agent of agents) agent.destroy();
      child.kill("SIGKILL");
    },
  };
}

/** As root each service has a uid of its own, and must get through. */
function openTo(directory: string): string {
  chmodSync(directory, 0o711);
  return directory;
}

/** A call of a test. */
export const call = (timeoutMs = 10_000) => makeCall({ caller: "cli", timeoutMs });

/** Waits until it is so; what is waited for is seen from outside only, so it is looked at again and again. */
export async function until(isSo: () => boolean | Promise<boolean>, what: () => string): Promise<void> {
  const endMs = performance.now() + WAIT_MS;
  while (!(await isSo())) {
    if (performance.now() > endMs) assert.fail(`waited ${WAIT_MS / 1000} s for ${what()}`);
    await sleep(25);
  }
}

/** Tells whether a process is there, and not just not yet collected. */
export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
