/** Makes the client of a contract: to its caller it is the service itself. */
import { type Asked, asTransport, askStream, askValue, type Target } from "./asking.ts";
import { type Call, leftMs, whenOver } from "./call.ts";
import { type Contract, DEFAULT_TIMEOUT_MS, type Operation, type Service } from "./contract.ts";
import { DEADLINE, Failure, fail, INSTANCE_MISDIRECTED, UNAVAILABLE } from "./error.ts";
import { termsOf } from "./names.ts";
import { nanosOf } from "./nanos.ts";
import { decodeBody, decodeFrames } from "./wire.ts";

export type { Target } from "./asking.ts";

/** Finds instances by name; cached, so that a call never waits for a lookup. */
export interface Resolver {
  pick(service: string): Target | Promise<Target>;
  /** Told when a target did not answer, so that the next pick avoids it. */
  failed(service: string, target: Target): void;
}

export interface ConnectOptions extends Pick<Asked, "basePath" | "encoding" | "headers"> {
  readonly resolver: Resolver;
}

/** A connection refused, reset before an answer, or an instance that is not the one meant: another may be tried. */
const TRIES_MAX = 3;
/** A stream without a sign of life for so long is cut (the server pings every second). */
const STREAM_SILENCE_MS = 5_000;

/** Makes the client of a contract. Calls fail with the service's codes, UNAVAILABLE or DEADLINE. */
export function connect<C extends Contract>(contract: C, options: ConnectOptions): Service<C> {
  const client: Record<string, unknown> = {};
  const { resolver, ...how } = options;
  for (const [name, op] of Object.entries(contract.operations)) {
    const asked = (input: Record<string, unknown>): Asked => ({ ...how, contract, op, input });
    client[name] =
      op.kind === "stream"
        ? (input: Record<string, unknown>, call: Call) => openStream(resolver, asked(input), call)
        : (input: Record<string, unknown>, call: Call) => callValue(resolver, asked(input), call);
  }
  return client as Service<C>;
}

async function callValue(resolver: Resolver, asked: Asked, call: Call): Promise<unknown> {
  const { op } = asked;
  const timeoutMs = Math.min(leftMs(call), op.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const { bytes, type } = await tried(resolver, asked, call, timeoutMs, askValue);
  return bytes.length === 0
    ? undefined
    : nanosOf(
        op.output,
        decodeBody(bytes, type, () => spokenIn(asked)),
      );
}

const spokenIn = ({ contract, op }: Asked) => {
  const { type, answer } = termsOf(contract, op);
  return { type, names: answer };
};

async function* openStream(resolver: Resolver, asked: Asked, call: Call): AsyncGenerator {
  const response = await tried(resolver, asked, call, Number.POSITIVE_INFINITY, askStream);
  const hangUp = () => response.destroy();
  // What was aborted while the answer's head was on its way is over, too.
  const stop = whenOver(call, hangUp);
  // The answer has none any more once it has ended.
  const { socket } = response;
  socket.setTimeout(STREAM_SILENCE_MS, hangUp);
  try {
    const { answer, framesType } = termsOf(asked.contract, asked.op);
    yield* decodeFrames(response, response.headers["content-type"] === framesType ? answer : undefined);
  } catch (error) {
    if (call.signal.aborted) return;
    throw error instanceof Failure
      ? error
      : fail(UNAVAILABLE, `the stream from ${asked.contract.name} broke`, { cause: error });
  } finally {
    stop();
    // A stream that the server ended leaves its connection to the next call, which is no stream.
    socket.off("timeout", hangUp).setTimeout(0);
    response.destroy();
  }
}

/** Asks one instance after another where that cannot do a thing twice; an answer that is a failure is thrown. */
async function tried<T extends object>(
  resolver: Resolver,
  asked: Asked,
  call: Call,
  timeoutMs: number,
  ask: (asked: Asked, target: Target, call: Call, timeoutMs: number) => Promise<T>,
): Promise<T> {
  const { contract, op } = asked;
  for (let tries = 1; ; tries++) {
    const picked = resolver.pick(contract.name);
    const target = picked instanceof Promise ? await pickInTime(contract, picked, call, timeoutMs) : picked;
    try {
      return await ask(asked, target, call, Math.min(timeoutMs, leftMs(call)));
    } catch (error) {
      const failure = asTransport(error, asked);
      const elsewhere =
        failure.code === INSTANCE_MISDIRECTED.code || (failure.code === UNAVAILABLE.code && wasNotTaken(error, op));
      if (failure.code === UNAVAILABLE.code || elsewhere) resolver.failed(contract.name, target);
      if (!elsewhere || tries === TRIES_MAX || call.signal.aborted) throw failure;
    }
  }
}

/** Waits for an instance to come up, no longer than the call may last. */
async function pickInTime(contract: Contract, picked: Promise<Target>, call: Call, timeoutMs: number): Promise<Target> {
  let stop: (() => void) | undefined;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const end = () => reject(fail(DEADLINE, `no instance of ${contract.name} came up in time`));
    if (Number.isFinite(timeoutMs)) timer = setTimeout(end, Math.max(1, timeoutMs));
    stop = whenOver(call, end);
  });
  try {
    return await Promise.race([picked, late]);
  } finally {
    clearTimeout(timer);
    stop?.();
  }
}

/** True where repeating cannot do a thing twice: nothing was sent, or what was sent only reads. */
function wasNotTaken(error: unknown, op: Operation): boolean {
  const e = error as { code?: string };
  return e.code === "ECONNREFUSED" || (e.code !== undefined && (op.method === "GET" || op.public?.retry === "safe"));
}
