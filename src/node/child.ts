/**
 * What a process does between its supervisor's pipe and its service: it is told who it is, makes its key, joins the node's
 * authority, serves the contract on the socket it inherited, holds its place in the registry, and ends with the pipe.
 */
import { Socket } from "node:net";
import { Auditor } from "../kernel/audit.ts";
import { connect } from "../kernel/connect.ts";
import { systemClock } from "../kernel/clock.ts";
import type { TlsIdentity } from "../kernel/identity/tls.ts";
import type { Trust } from "../kernel/identity/trust.ts";
import { type Log, makeLog } from "../kernel/log.ts";
import { Calls } from "../kernel/metrics/calls.ts";
import { watchProcess } from "../kernel/metrics/watched.ts";
import { Metrics } from "../kernel/metrics/metrics.ts";
import { HANDED_OVER, type ServiceMain } from "../kernel/service.ts";
import { Tracer } from "../kernel/trace.ts";
import type { Lease } from "../services/registry/client.ts";
import { trace as traceContract } from "../services/trace/api.ts";
import { type Hello, LINE_FD } from "./hello.ts";
import { Health } from "./health.ts";
import { keepHeapSmall } from "./heap.ts";
import { Inbox, ServiceLines } from "./inbox.ts";
import { join } from "./join.ts";
import { type Line, openLine } from "./line.ts";
import {
  contextOf,
  handOver,
  hold,
  Lookup,
  registryOf,
  rememberTable,
  type Running,
  serveAll,
  stopPart,
} from "./part.ts";
import { ship } from "./shipping.ts";

/** A service that cannot reach the registry is still there for those who know its address; it says so, and is ready. */
const HELD_WAIT_MS = 5_000;
/** When the supervisor is gone nobody ends a process that hangs in its own stop. */
const ORPHAN_STOP_MS = 8_000;

/** What a process can be told. */
export interface Handle {
  /** Lets who calls go elsewhere, while all still works; never rejects. */
  handOver(): Promise<void>;
  stop(): Promise<void>;
}

export interface ProcessOptions {
  readonly hello: Hello;
  readonly line: Line;
  readonly inbox: Inbox;
  readonly log: Log;
  readonly stopping: AbortSignal;
}

/** Runs what a process is for, to its end; `run` answers how it is stopped. */
export async function runChild(run: (options: ProcessOptions) => Promise<Handle>): Promise<void> {
  const inbox = new Inbox();
  const line = openLine(new Socket({ fd: LINE_FD, readable: true, writable: true }), (message) => inbox.take(message));
  // Ctrl-C reaches every process of the terminal; who ends when is the supervisor's to say.
  for (const signal of ["SIGINT", "SIGHUP", "SIGPIPE"] as const) process.on(signal, () => undefined);
  const stopping = new AbortController();
  void endWith(line, stopping);
  const hello = (await Promise.race([
    inbox.next("hello"),
    line.closed.then(() => process.exit(1)),
  ])) as unknown as Hello;
  const log = makeLog(hello.compact ? "node" : hello.parts[0].name, { level: hello.logLevel });
  failLoudly(log);
  let handle: Handle | undefined;
  inbox.on("stop", ({ handover }) => {
    if (handover === true && handle) void handle.handOver().then(() => stopping.abort(HANDED_OVER));
    else stopping.abort();
  });
  process.once("SIGTERM", () => stopping.abort());
  try {
    handle = await run({ hello, line, inbox, log, stopping: stopping.signal });
    if (!stopping.signal.aborted)
      await new Promise((resolve) => stopping.signal.addEventListener("abort", resolve, { once: true }));
    await handle.stop();
  } catch (error) {
    // Told to stop while it was still starting: what it waited for is not coming any more.
    if (!stopping.signal.aborted) throw error;
  }
  process.exit(0);
}

/** Ends with the supervisor: in order, but not for ever. */
async function endWith(line: Line, stopping: AbortController): Promise<void> {
  await line.closed;
  setTimeout(() => process.exit(1), ORPHAN_STOP_MS).unref();
  stopping.abort();
}

/** What nobody caught ends the process with a line that says so: the supervisor starts it again. */
function failLoudly(log: Log): void {
  const end = (error: unknown): void => {
    log.fatal({ err: error }, error instanceof Error ? error.message : String(error));
    process.exit(1);
  };
  process.on("uncaughtException", end);
  process.on("unhandledRejection", end);
}

/** Runs the one service of this process. */
export async function runService(main: ServiceMain, options: ProcessOptions): Promise<Handle> {
  const { hello, line, inbox, log, stopping } = options;
  const part = hello.parts[0];
  line.send({ kind: "loaded" });
  const lines = new ServiceLines(inbox, line);
  const tracer = new Tracer(part.name, systemClock);
  const audit = new Auditor(systemClock);
  const metrics = new Metrics();
  watchProcess(metrics);
  const counting = { tracer, audit, metrics, calls: new Calls(metrics, systemClock) };
  const running: Running = { hello, part, main, log, ...counting, health: new Health(systemClock, metrics), stopping };
  const lookup = new Lookup(hello);
  const joined = main.ownIdentity ? undefined : await joinNode(options);
  await standBy(options);
  rememberTable(running, lookup.table);
  if (joined) lookup.identity = joined;
  if (joined) inbox.on("authority", (message) => joined.trust(message as unknown as Trust));
  // The registry holds its own place, too, but only after it is there.
  const early = joined && !part.standalone && part.name !== "core-keeper";
  let lease: Lease | undefined = early
    ? hold(running, { registry: registryOf(lookup), table: lookup.table })
    : undefined;
  const started = await main.start(contextOf(running, { identity: joined, lookup, line: lines.of(part.name) }));
  const identity = started.identity ?? joined;
  if (identity) lookup.identity = identity;
  const served = await serveAll(running, started, identity);
  running.health.began(started);
  // A successor is there only when callers know it: until then they are its predecessor's.
  if (lease && hello.successor) await lease.held.then(() => lease!.renew());
  else if (lease) await inTime(lease.held.then(() => lease!.renew()));
  else if (!part.standalone) lease = hold(running, { registry: registryOf(lookup), table: lookup.table });
  const stopShipping = part.standalone
    ? undefined
    : ship({ ...running, trace: connect(traceContract, { resolver: lookup }) });
  running.health.onChange = (state, reason) => {
    line.send({ kind: "state", service: part.name, state, ...(reason === undefined ? {} : { reason }) });
    void lease?.renew();
  };
  line.send({ kind: "ready", service: part.name });
  if (main.frugal) keepHeapSmall();
  const parts = { started, served, lease, stopShipping };
  return { handOver: () => handOver(running, parts), stop: () => stopPart(running, parts) };
}

/** One that takes the place of another waits here until that has let go of its store. */
export async function standBy({ hello, line, inbox, stopping }: Omit<ProcessOptions, "log">): Promise<void> {
  if (hello.successor !== "waiting") return;
  line.send({ kind: "standing" });
  await Promise.race([
    inbox.next("go"),
    new Promise((_, reject) => stopping.addEventListener("abort", reject, { once: true })),
  ]);
}

async function joinNode({ hello, line, inbox, log, stopping }: ProcessOptions): Promise<TlsIdentity> {
  const part = hello.parts[0];
  const caPem = (await inbox.next("authority"))["caPem"] as string;
  return join({
    node: hello.node,
    service: part.name,
    instance: part.instance,
    caPem,
    identity: hello.addresses["identity"],
    ...(part.joinSecret === undefined ? {} : { secret: part.joinSecret }),
    async newSecret() {
      const answer = inbox.next(`join ${part.name}`);
      line.send({ kind: "need-join", service: part.name });
      return (await answer)["secret"] as string;
    },
    clock: systemClock,
    log,
    signal: stopping,
  });
}

/** Waits, but not for ever. */
async function inTime(work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, HELD_WAIT_MS).unref()));
  await Promise.race([work, late]);
  clearTimeout(timer);
}
