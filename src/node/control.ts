/** The node's own service, on its Unix socket alone: what `holdfast status`, `token`, `logs` and `stop` ask for. */
import { fail } from "../kernel/error.ts";
import { identity } from "../services/identity/api.ts";
import type { Node } from "./api.ts";
import { NODE_SERVICE_UNKNOWN } from "./codes.ts";
import type { KeyRing } from "../kernel/seal/keyring.ts";
import type { KeyDesk } from "./keys/desk.ts";
import type { Guests } from "./guests/guests.ts";
import { forgetDevice } from "./forget.ts";
import type { Logbook } from "./logbook.ts";
import type { Restarted } from "./rolling.ts";
import type { Supervisor } from "./supervisor.ts";

export interface ControlOptions {
  readonly supervisor: Supervisor;
  readonly logbook: Logbook;
  readonly node: string;
  readonly version: string;
  readonly compact: boolean;
  readonly stateDirectory: string;
  readonly startedAtMs: number;
  readonly ring: KeyRing;
  readonly keys: KeyDesk;
  readonly guests: Guests;
  gatewayUrl(): string;
  /** What protects the node, and what not, a sentence each. */
  protection(): string[];
  /** Replaces the processes of these services. */
  restart(services: readonly string[]): AsyncIterable<Restarted>;
  /** Begins the end; answers at once. */
  stop(): void;
}

const TOKEN_TIMEOUT_MS = 5_000;

/** Makes the service of the `node` contract. */
export function makeControl(options: ControlOptions): Node {
  const { supervisor, logbook, node, version, compact, stateDirectory, startedAtMs, ring, keys, guests } = options;
  return {
    async status() {
      return {
        node,
        version,
        startedAtMs,
        compact,
        stateDirectory,
        gatewayUrl: options.gatewayUrl(),
        keyProvider: ring.provider,
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
    restart: ({ services }) => {
      const all = supervisor.status().map(({ service }) => service);
      const unknown = services.find((name) => !all.includes(name));
      if (unknown !== undefined)
        throw fail(NODE_SERVICE_UNKNOWN, `no service '${unknown}' runs here; there are: ${all.join(", ")}`);
      return options.restart(services.length === 0 ? all : services);
    },
    run: ({ spec, name }, call) => guests.run(spec, name, call.signal),
    async end({ body }) {
      if (!guests.isRun(body.name))
        throw fail(NODE_SERVICE_UNKNOWN, `no service '${body.name}' was started with 'holdfast run'`);
      await guests.end(body.name);
      return {};
    },
    keys: () => keys.keys(),
    rotateKeys: (input) => keys.rotateKeys(input),
    migrateKeys: (input) => keys.migrateKeys(input),
    resealKeys: (input) => keys.resealKeys(input),
    escrowKeys: (input) => keys.escrowKeys(input),
    forgetDevice: ({ body }) => forgetDevice(supervisor, body.device),
    secrets: () => keys.secrets(),
    setSecret: (input) => keys.setSecret(input),
    removeSecret: (input) => keys.removeSecret(input),
    async stop() {
      options.stop();
      return {};
    },
  };
}
