/**
 * Runs services in this process, without a wire between them: what `--compact` and the tests stand on. The same mains,
 * the same contracts, the same checks of callers; only the sockets are missing.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Static, TObject } from "typebox";
import { Auditor } from "../kernel/audit.ts";
import { type Call, leftMs, makeCall } from "../kernel/call.ts";
import { checkInput, defaultOf } from "../kernel/check.ts";
import { type Clock, systemClock } from "../kernel/clock.ts";
import { checkConfig } from "../kernel/config.ts";
import { readNamedFiles } from "../kernel/config-reach.ts";
import { type Contract, DEFAULT_TIMEOUT_MS, type Operation, type Service } from "../kernel/contract.ts";
import { callerOf, during } from "../kernel/during.ts";
import { CALLER_REFUSED, fail, UNAVAILABLE } from "../kernel/error.ts";
import type { TlsIdentity } from "../kernel/identity/tls.ts";
import type { Log } from "../kernel/log.ts";
import { Calls } from "../kernel/metrics/calls.ts";
import { Metrics } from "../kernel/metrics/metrics.ts";
import type { ListenAt } from "../kernel/serve.ts";
import { StoreKeys } from "../kernel/seal/store-keys.ts";
import type { Context, ServiceMain, Started, SupervisorLine } from "../kernel/service.ts";
import { Tracer } from "../kernel/trace.ts";

export interface LocalOptions {
  readonly node: string;
  readonly directory: string;
  /** A service's own directory, where it is not below `directory`. */
  directoryOf?(service: string): string;
  readonly version: string;
  readonly log: Log;
  readonly clock?: Clock;
  /** Data key of each store, 32 bytes; its one and only, unless `keysOf` tells more. */
  dataKey?(service: string): Promise<Uint8Array>;
  /** The keys of a service, where somebody else holds them. */
  keysOf?(service: string): StoreKeys;
  /** Config sections by service; missing fields take their defaults. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Doors by service. */
  readonly doors?: Readonly<Record<string, Readonly<Record<string, ListenAt>>>>;
  /** The certificate of a service that has sockets nevertheless; without it the context has none. */
  identityOf?(service: string): TlsIdentity | undefined;
  /** The line to a supervisor, where there is one; without it the house keeps what services say. */
  lineOf?(service: string): SupervisorLine;
  /** The files that a service's config names, where this process may not read them itself. */
  secretsOf?(service: string): Readonly<Record<string, string>> | undefined;
  /** A service's instance, where somebody else chooses it. */
  instanceOf?(service: string): string;
}

/** One service running here. */
export interface LocalService {
  readonly main: ServiceMain;
  readonly started: Started<Contract>;
  readonly tracer: Tracer;
  readonly audit: Auditor;
  readonly metrics: Metrics;
  readonly calls: Calls;
  readonly instance: string;
  stop(): Promise<void>;
}

export interface LocalHouse {
  /** Starts a service; what it needs must be started before its first call, not before itself. */
  start<C extends Contract, S extends TObject>(
    main: ServiceMain<C, S>,
    config?: Partial<Static<S>>,
  ): Promise<LocalService & { service: Service<C> }>;
  /** A client of a service that runs here, for a caller by name. */
  connect<C extends Contract>(contract: C, caller: string): Service<C>;
  readonly services: ReadonlyMap<string, LocalService>;
  /** Puts a message on a service's supervisor line. */
  tell(service: string, kind: string, message: Readonly<Record<string, unknown>>): void;
  /** Stops all, last started first. */
  stop(): Promise<void>;
}

const newInstance = (service: string): string =>
  `${service}-${process.pid}-${Math.round(performance.now() * 1000).toString(36)}`;

function makeDirectory(options: LocalOptions, service: string): string {
  const directory = options.directoryOf?.(service) ?? join(options.directory, service);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return directory;
}

/** Makes a house in this process. */
export function makeLocalHouse(options: LocalOptions): LocalHouse {
  const clock = options.clock ?? systemClock;
  const services = new Map<string, LocalService>();
  const lines = new Map<string, SupervisorLineLocal>();
  const lineOf = (name: string) => lines.get(name) ?? lines.set(name, new SupervisorLineLocal()).get(name)!;
  const connectAs = <C extends Contract>(contract: C, caller: string): Service<C> =>
    localClient(
      contract,
      caller,
      () => services.get(contract.name)?.started.service,
      () => services.get(contract.name)?.calls,
      () => services.get(contract.name)?.tracer,
    );

  return {
    services,
    connect: connectAs,
    tell: (service, kind, message) => lineOf(service).deliver(kind, message),
    async start(main, config) {
      const name = main.contract.name;
      const stopping = new AbortController();
      const metrics = new Metrics();
      const noted = { tracer: new Tracer(name, clock), audit: new Auditor(clock), metrics };
      const counted = { ...noted, calls: new Calls(metrics, clock) };
      const values = configOf(main, options.config?.[name], config);
      const context: Context<never> = {
        ...(await ownOf(options, name)),
        ...counted,
        clock,
        config: values as never,
        secrets: options.secretsOf?.(name) ?? readNamedFiles(main.config, values, name),
        supervisor: options.lineOf?.(name) ?? lineOf(name),
        connect: (contract) => connectAs(contract, name),
        stopping: stopping.signal,
      };
      const started = await main.start(context);
      const local = {
        main: main as unknown as ServiceMain,
        started: started as unknown as Started<Contract>,
        service: started.service,
        ...counted,
        instance: context.instance,
        async stop() {
          services.delete(name);
          stopping.abort();
          await started.stop?.();
        },
      };
      services.set(name, local);
      return local;
    },
    async stop() {
      for (const local of [...services.values()].reverse()) await local.stop();
    },
  };
}

/** Who a service is, and what is its alone. */
async function ownOf(options: LocalOptions, name: string) {
  const { node, version } = options;
  const keys = await keysFor(options, name);
  return {
    name,
    node,
    version,
    instance: options.instanceOf?.(name) ?? newInstance(name),
    directory: makeDirectory(options, name),
    key: (purpose: string) => keys.key(purpose),
    keys: (purpose: string) => keys.keys(purpose),
    log: options.log.child({ service: name }),
    identity: options.identityOf?.(name),
    doors: options.doors?.[name] ?? {},
  };
}

async function keysFor(options: LocalOptions, name: string): Promise<StoreKeys> {
  if (options.keysOf) return options.keysOf(name);
  const key = await options.dataKey?.(name);
  if (!key) throw new TypeError(`nobody gives ${name} its keys`);
  return new StoreKeys(name, [{ id: 0, key: Buffer.from(key) }]);
}

/** Fills a config section's defaults and refuses what the schema does not know. */
export function configOf(main: { config: TObject }, ...sections: unknown[]): unknown {
  const given = Object.assign({}, ...sections.filter((s) => s !== undefined)) as object;
  return checkConfig(main.config, structuredClone(given), "");
}

class SupervisorLineLocal {
  readonly #handlers = new Map<string, (message: Readonly<Record<string, unknown>>) => void>();
  readonly #waiting: { kind: string; message: Readonly<Record<string, unknown>> }[] = [];
  readonly sent: { kind: string; message: Readonly<Record<string, unknown>> }[] = [];

  on(kind: string, handle: (message: Readonly<Record<string, unknown>>) => void): void {
    this.#handlers.set(kind, handle);
    for (const m of this.#waiting) if (m.kind === kind) handle(m.message);
  }

  send(kind: string, message: Readonly<Record<string, unknown>>): void {
    this.sent.push({ kind, message });
  }

  deliver(kind: string, message: Readonly<Record<string, unknown>>): void {
    const handle = this.#handlers.get(kind);
    if (handle) handle(message);
    else this.#waiting.push({ kind, message });
  }
}

/** A client that calls the service's own functions, with the checks a wire would have made; `countIn` counts the calls, `tracerOf` is the service's own. */
export function localClient<C extends Contract>(
  contract: C,
  caller: string,
  find: () => Service<Contract> | undefined,
  countIn: () => Calls | undefined = () => undefined,
  tracerOf: () => Tracer | undefined = () => undefined,
): Service<C> {
  const client: Record<string, unknown> = {};
  for (const [name, op] of Object.entries(contract.operations)) {
    const prepare = (input: Record<string, unknown>, call: Call) => {
      if (!mayCallLocally(op, caller))
        throw fail(CALLER_REFUSED, `'${caller}' may not call ${name} of ${contract.name}`);
      const service = find();
      if (!service) throw fail(UNAVAILABLE, `${contract.name} is not running`, { retryAfterS: 1 });
      const filled = { ...input };
      for (const [field, schema] of Object.entries(op.input))
        if (filled[field] === undefined && defaultOf(schema) !== undefined) filled[field] = defaultOf(schema);
      checkInput(op, filled);
      const timeoutMs =
        op.kind === "stream" ? Number.POSITIVE_INFINITY : Math.min(leftMs(call), op.timeoutMs ?? DEFAULT_TIMEOUT_MS);
      const inner = makeCall({
        caller,
        timeoutMs,
        requestId: call.requestId,
        parentId: callerOf(call).spanId,
        signal: call.signal,
        ...(call.subject ? { subject: call.subject } : {}),
      });
      return { handler: service[name] as unknown as (input: unknown, call: Call) => unknown, filled, inner, service };
    };
    client[name] =
      op.kind === "stream"
        ? (input: Record<string, unknown>, call: Call): AsyncIterable<unknown> => {
            const { handler, filled, inner, service } = prepare(input, call);
            return handler.call(service, filled, inner) as AsyncIterable<unknown>;
          }
        : async (input: Record<string, unknown>, call: Call): Promise<unknown> => {
            const { handler, filled, inner, service } = prepare(input, call);
            const work = () =>
              during(inner, tracerOf(), () => handler.call(service, filled, inner) as Promise<unknown>);
            try {
              return await (countIn()?.around(name, op.quiet ? undefined : call.requestId, work) ?? work());
            } finally {
              inner.end(false);
            }
          };
  }
  return client as Service<C>;
}

const mayCallLocally = (op: Operation, caller: string): boolean =>
  (op.public !== undefined && (caller === "gateway" || caller === "cli" || caller === "open-edgex")) ||
  (op.callers ?? []).some((c) => c === caller || (c.endsWith("*") && caller.startsWith(c.slice(0, -1))));
