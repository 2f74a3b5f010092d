/** What the parts of the registry's bench share. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { makeCall } from "../../src/kernel/call.ts";
import type { Authority } from "../../src/kernel/identity/authority.ts";
import { type Papers, startProcess } from "../../test/houses/registry.ts";
import type { Row } from "../table.ts";

/** Those of the service's config, not of the tests. */
const LEASE = { ttlMs: 3_000, renewMs: 1_000, preserveMs: 15_000 };

export interface Bench {
  readonly authority: Authority;
  readonly registryPort: number;
  readonly rows: Row[];
  readonly papers: (service: string) => Promise<Papers>;
}

export const calling = () => makeCall({ caller: "bench", timeoutMs: 15_000 });

export const quantile = (values: readonly number[], q: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))];

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** Starts a registry in a process of its own, on loopback unless said. */
export const serveAlone = async (
  bench: Pick<Bench, "papers" | "registryPort">,
  registryHost?: string,
): Promise<ChildProcess & { readonly port: number }> =>
  startProcess("serve", {
    papers: await bench.papers("core-keeper"),
    registryPort: bench.registryPort,
    ...(registryHost === undefined ? {} : { registryHost }),
    instance: "",
    lease: LEASE,
  });

export const end = async (child: ChildProcess, signal: NodeJS.Signals = "SIGKILL"): Promise<void> => {
  const gone = once(child, "exit");
  child.kill(signal);
  await gone;
};
