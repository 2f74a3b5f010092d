/** What the hostile service tries: each attempt is one thing that an intruder would do, and brings evidence if it was done. */
import { attempt as native, type Arg, LibcError } from "../../src/node/confine/libc.ts";
import { archOf } from "../../src/node/confine/libc.ts";
import { JUDGED, MADE, numberOf, REFUSED } from "../../src/node/confine/syscalls.ts";
import type { Context } from "../../src/kernel/service.ts";

/** What there is to attack: found out by the test, which sees all of it. */
export interface Target {
  readonly ownDirectory: string;
  readonly codeDirectory: string;
  /** Files of others: a service's, the key file, the wrapped keys, the config, one that any program left in /tmp. */
  readonly files: Readonly<
    Record<
      "a neighbour's file" | "the key file" | "the wrapped keys" | "the config" | "a program's file in /tmp",
      string
    >
  >;
  readonly directories: Readonly<Record<string, string>>;
  readonly controlSocket: string;
  readonly supervisorPid: number;
  readonly neighbourPid: number;
  /** Ports that its contract does not name: another service's, and a stranger's. */
  readonly otherServicePort: number;
  readonly strangePort: number;
  readonly neighbour: string;
  readonly neighbourInstance: string;
}

export interface Box {
  readonly target: Target;
  /** Of the service; absent where the attempts are made unconfined, to show that they can succeed. */
  readonly context?: Context<never>;
}

export interface Attempt {
  readonly name: string;
  /** How it is refused. */
  readonly refused: RegExp;
  /** Answers evidence of its success; throws, or answers undefined, where it was refused. */
  run(box: Box): unknown;
  /** False where it cannot succeed unconfined either, or would do harm there. */
  readonly control?: false;
}

export interface Outcome {
  readonly name: string;
  readonly evidence?: string;
  readonly refusal?: string;
}

/** Files, by owner and mode or by Landlock; not there, in a file system of its own; read-only there. */
export const FILE = /EACCES|EPERM|ENOENT|EROFS/;
/** By the system call filter. */
export const FILTER = /EPERM|ENOSYS/;

/** Makes attempts one after the other. */
export async function tryAll(attempts: readonly Attempt[], box: Box): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const attempt of attempts) {
    const { name } = attempt;
    try {
      const evidence = await attempt.run(box);
      outcomes.push(
        evidence === undefined ? { name, refusal: "nothing happened" } : { name, evidence: String(evidence) },
      );
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      outcomes.push({ name, refusal: `${error instanceof LibcError ? error.symbol : (code ?? "")} ${message}`.trim() });
    }
  }
  return outcomes;
}

/** Calls the C library; throws where it refuses. */
export function call(name: string, ...args: readonly Arg[]): number {
  const result = native(name, ...args);
  if (result < 0) throw new LibcError(name, -result);
  return result;
}

const numbers = { ...REFUSED, ...JUDGED, ...MADE };
/** Makes a system call by its number, whatever the C library thinks of it. */
export function systemCall(name: keyof typeof numbers, ...args: readonly Arg[]): number {
  const number = numberOf<number | null>(numbers[name], archOf());
  if (number === null) throw new LibcError(name, 38);
  return call("syscall", number, ...args);
}
