/** The node's own service, on its Unix socket alone: what `holdfast status`, `token`, `logs` and `stop` ask for. */
import { identity } from "../services/identity/api.ts";
import type { Node } from "./api.ts";
import type { Logbook } from "./logbook.ts";
import type { Supervisor } from "./supervisor.ts";

export interface ControlOptions {
  readonly supervisor: Supervisor;
  readonly logbook: Logbook;
  readonly node: string;
  readonly version: string;
  readonly compact: boolean;
  readonly stateDirectory: string;
  readonly startedAtMs: number;
  readonly keyProvider: { readonly name: string; readonly promise: string };
  gatewayUrl(): string;
  /** What protects the node, and what not, a sentence each. */
  protection(): string[];
  /** Begins the end; answers at once. */
  stop(): void;
}

const TOKEN_TIMEOUT_MS = 5_000;

/** Makes the service of the `node` contract. */
export function makeControl(options: ControlOptions): Node {
  const { supervisor, logbook, node, version, compact, stateDirectory, startedAtMs, keyProvider } = options;
  return {
    async status() {
      return {
        node,
        version,
        startedAtMs,
        compact,
        stateDirectory,
        gatewayUrl: options.gatewayUrl(),
        keyProvider: { name: keyProvider.name, promise: keyProvider.promise },
        confinement: options.protection(),
        services: supervisor.status(),
      };
    },
    async token({ body }) {
      const call = supervisor.call(TOKEN_TIMEOUT_MS);
      try {
        const issued = await supervisor.connect(identity).issueToken({ body }, call);
        return { ...issued, gatewayUrl: options.gatewayUrl(), caPem: await supervisor.caPem };
      } finally {
        call.end(false);
      }
    },
    async logs(query) {
      return { lines: await logbook.tail(query) };
    },
    async stop() {
      options.stop();
      return {};
    },
  };
}
