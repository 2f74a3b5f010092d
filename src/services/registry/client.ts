/** What a process does to be found and to find others: holds its lease for ever, and keeps its table fed. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Call, makeCall } from "../../kernel/call.ts";
import { asFailure, type Failure } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import { type Change, type Instance, REGISTRY_LEASE_UNKNOWN, type Registry, type State } from "./api.ts";
import { Table, UNCONFIRMED_KEPT_MS } from "./table.ts";

export { makeResolver, type ResolverOptions } from "./resolver.ts";
export { type Entry, Table } from "./table.ts";

/** A stream that brings nothing in this time is given up: the registry takes the connection but is not there. */
const FIRST_CHANGE_MS = 10_000;
/** Pauses between tries grow from the first to the most; each is drawn between a half and the whole, so that not all come at once. */
const RETRY_MS = 100;
const RETRY_MS_MAX = 800;

export interface FollowOptions {
  readonly registry: Registry;
  /** Whose calls these are, for the log; over a wire the certificate says it. */
  readonly caller: string;
  readonly log: Log;
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Fed with the changes; made where none is given. */
  readonly table?: Table;
  /** Called after each change is in the table. */
  onChange?(change: Change): void;
}

export interface HoldOptions extends Omit<FollowOptions, "caller"> {
  /** What to register; asked again at each registration. */
  instance(): Instance;
  /** Asked at each renewal. A throw counts as `warning`. */
  health(): { readonly state: State; readonly reason?: string };
}

export interface Lease {
  readonly table: Table;
  /** Resolves at the first registration; never rejects (a lease is tried for until `signal`). */
  readonly held: Promise<void>;
  /** Renews now rather than at the next turn: to be called when health changed (draining, say). Never rejects. */
  renew(): Promise<void>;
  /** Deregisters and ends; resolves when the registry knows, or could not be told. The stream's end says the same. */
  release(): Promise<void>;
}

/** Registers an instance, and again whenever the registry was away, until `signal` aborts. Tells of failures in the log alone. */
export function holdLease(options: HoldOptions): Lease {
  const holder = new Holder(options);
  return { table: holder.table, held: holder.held, renew: () => holder.renew(), release: () => holder.release() };
}

/** Keeps a table fed without registering, until `signal` aborts. `first` resolves at the first snapshot. */
export function followTable(options: FollowOptions): { readonly table: Table; readonly first: Promise<void> } {
  const table = options.table ?? new Table();
  const first = Promise.withResolvers<void>();
  const onChange = (change: Change) => {
    if (change.kind === "snapshot") first.resolve();
    options.onChange?.(change);
  };
  const follower = new Follower({ ...options, table, onChange }, (call) => options.registry.watch({}, call));
  void follower.run();
  return { table, first: first.promise };
}

/** Opens a stream of changes again and again. */
class Follower {
  readonly #options: FollowOptions & { readonly table: Table };
  readonly #open: (call: Call) => AsyncIterable<Change>;
  #call: ReturnType<typeof makeCall> | undefined;
  #settling: NodeJS.Timeout | undefined;

  constructor(options: FollowOptions & { readonly table: Table }, open: (call: Call) => AsyncIterable<Change>) {
    this.#options = options;
    this.#open = open;
  }

  /** Cuts the present stream; the next is opened after a pause. */
  cut(): void {
    this.#call?.end(true);
  }

  async run(): Promise<void> {
    const { signal, log } = this.#options;
    const cut = () => this.cut();
    signal.addEventListener("abort", cut, { once: true });
    let failures = 0;
    while (!signal.aborted) {
      const { changes, failure } = await this.#once();
      if (signal.aborted) break;
      if (changes > 0) failures = 0;
      // Once an outage: the tries after it would say the same for hours.
      if (failures === 0) log.warn({ code: failure?.code }, `the registry went away, the last known table serves: ${failure?.message ?? "its stream ended"}`);
      const pauseMs = Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** failures++) * (0.5 + Math.random() / 2);
      await sleep(pauseMs, undefined, { signal }).catch(() => undefined); // Only the abort rejects; the loop's condition sees it.
    }
    signal.removeEventListener("abort", cut);
  }

  /** Opens one stream and reads it to its end. */
  async #once(): Promise<{ changes: number; failure?: Failure }> {
    const call = makeCall({ caller: this.#options.caller, timeoutMs: Number.POSITIVE_INFINITY });
    this.#call = call;
    const patience = setTimeout(() => call.end(true), FIRST_CHANGE_MS);
    let changes = 0;
    this.#options.table.beginStream();
    try {
      for await (const change of this.#open(call)) {
        clearTimeout(patience);
        if (call.signal.aborted) break;
        this.#take(change, changes++);
      }
      return { changes };
    } catch (error) {
      return { changes, failure: asFailure(error) };
    } finally {
      clearTimeout(patience);
      clearTimeout(this.#settling);
      call.end(true);
    }
  }

  #take(change: Change, nth: number): void {
    const { table, log, onChange } = this.#options;
    if (nth === 0) this.#settling = setTimeout(() => table.settle(), UNCONFIRMED_KEPT_MS).unref();
    table.apply(change);
    try {
      onChange?.(change);
    } catch (error) {
      log.error({ err: error }, "what was to happen on a change of the registry failed");
    }
  }
}

class Holder {
  readonly table: Table;
  readonly held: Promise<void>;
  readonly #options: HoldOptions;
  readonly #follower: Follower;
  readonly #ended = new AbortController();
  readonly #service: string;
  #lease: NonNullable<Change["lease"]> | undefined;
  #renewals: NodeJS.Timeout | undefined;
  #renewing: Promise<void> | undefined;

  constructor(options: HoldOptions) {
    this.#options = options;
    this.#service = options.instance().service;
    this.table = options.table ?? new Table();
    const held = Promise.withResolvers<void>();
    this.held = held.promise;
    const onChange = (change: Change) => {
      if (change.lease) this.#begin(change.lease);
      if (change.kind === "snapshot") held.resolve();
      options.onChange?.(change);
    };
    const signal = AbortSignal.any([options.signal, this.#ended.signal]);
    const { registry, log } = options;
    this.#follower = new Follower({ registry, log, signal, table: this.table, onChange, caller: this.#service }, (call) => this.#hold(call));
    void this.#follower.run();
  }

  async *#hold(call: Call): AsyncGenerator<Change> {
    try {
      const { state, reason } = this.#health();
      yield* this.#options.registry.hold({ instance: { ...this.#options.instance(), state, ...(reason === undefined ? {} : { reason }) } }, call);
    } finally {
      clearInterval(this.#renewals);
      this.#lease = undefined;
    }
  }

  #begin(lease: NonNullable<Change["lease"]>): void {
    this.#lease = lease;
    clearInterval(this.#renewals);
    this.#renewals = setInterval(() => void this.renew(), lease.renewMs).unref();
  }

  async renew(): Promise<void> {
    // What this renewal is called for may have happened after the one under way was sent.
    while (this.#renewing) await this.#renewing;
    const lease = this.#lease;
    if (!lease) return;
    this.#renewing = this.#renewOnce(lease).finally(() => (this.#renewing = undefined));
    await this.#renewing;
  }

  async #renewOnce(lease: NonNullable<Change["lease"]>): Promise<void> {
    const call = makeCall({ caller: this.#service, timeoutMs: lease.ttlMs / 2 });
    try {
      await this.#options.registry.renew({ body: { lease: lease.id, ...this.#health() } }, call);
    } catch (error) {
      const { code, message } = asFailure(error);
      // Any other failure is the stream's to tell: as long as it flows, the next renewal may pass.
      if (code === REGISTRY_LEASE_UNKNOWN.code && lease === this.#lease) this.#follower.cut();
      this.#options.log.debug({ code }, `a lease was not renewed: ${message}`);
    } finally {
      call.end(false);
    }
  }

  async release(): Promise<void> {
    const lease = this.#lease;
    clearInterval(this.#renewals);
    this.#lease = undefined;
    const call = makeCall({ caller: this.#service, timeoutMs: RELEASE_MS });
    try {
      if (lease) await this.#options.registry.release({ body: { lease: lease.id } }, call);
    } catch (error) {
      this.#options.log.debug({ code: asFailure(error).code }, "the registry could not be told of the end");
    } finally {
      call.end(false);
      this.#ended.abort();
    }
  }

  #health(): { state: State; reason?: string } {
    try {
      return this.#options.health();
    } catch (error) {
      return { state: "warning", reason: `its health could not be told: ${error instanceof Error ? error.message : String(error)}`.slice(0, 1024) };
    }
  }
}

const RELEASE_MS = 1_000;
