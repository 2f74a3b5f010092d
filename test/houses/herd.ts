/** Many clients of a registry in one process: it reports when all of its watchers know of a death. Run by a bench. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { followTable, holdLease } from "../../src/services/registry/client.ts";
import { clientOf, instanceOf, type Papers, quiet } from "./registry.ts";

export interface HerdOrder {
  readonly papers: Papers;
  readonly registryPort: number;
  /** Of its instances, so that those of two herds differ. */
  readonly name: string;
  readonly holders: number;
  readonly watchers: number;
}

/** What a herd says: all are there, or the last of its watchers learned that an instance is down (on the machine's monotonic clock). */
export type HerdSays = { readonly ready: true } | { readonly down: string; readonly atMs: number };

/** The machine's monotonic clock, the same in every process. */
export const sharedMs = (): number => Number(process.hrtime.bigint()) / 1e6;

/** Starts a herd and waits until all of it is there; the caller ends it. */
export async function startHerd(order: HerdOrder): Promise<ChildProcess> {
  const child = fork(import.meta.filename, [], { execArgv: ["--no-function-context-cells"] });
  child.send(order);
  await once(child, "message");
  return child;
}

/** Resolves with the moment at which the last watcher of the herds knew. */
export async function allKnow(herds: readonly ChildProcess[], instance: string): Promise<number> {
  const known = herds.map(
    (herd) =>
      new Promise<number>((resolve) => {
        const look = (said: HerdSays) => {
          if (!("down" in said) || said.down !== instance) return;
          herd.off("message", look);
          resolve(said.atMs);
        };
        herd.on("message", look);
      }),
  );
  return Math.max(...(await Promise.all(known)));
}

async function beHerd({ papers, registryPort, name, holders, watchers }: HerdOrder): Promise<void> {
  const signal = new AbortController().signal;
  const known = new Map<string, number>();
  const follows = Array.from({ length: watchers }, () => {
    const client = clientOf(papers, registryPort);
    return followTable({
      ...client,
      caller: papers.service,
      log: quiet,
      signal,
      onChange({ kind, instances: [instance] }) {
        if (kind !== "down" || !instance) return;
        const count = (known.get(instance.instance) ?? 0) + 1;
        known.set(instance.instance, count);
        if (count < watchers) return;
        known.delete(instance.instance);
        process.send?.({ down: instance.instance, atMs: sharedMs() } satisfies HerdSays);
      },
    });
  });
  const leases = Array.from({ length: holders }, (_, n) => {
    const { registry, table } = clientOf(papers, registryPort);
    return holdLease({
      registry,
      table,
      instance: () => instanceOf(papers.service, `${name}-${n}`, 10_000 + n),
      health: () => ({ state: "passing" }),
      log: quiet,
      signal,
    });
  });
  await Promise.all([...follows.map(({ first }) => first), ...leases.map(({ held }) => held)]);
  process.send?.({ ready: true } satisfies HerdSays);
}

if (import.meta.main) {
  process.once("message", (order: HerdOrder) => void beHerd(order));
  process.once("disconnect", () => process.exit());
}
