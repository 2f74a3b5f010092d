/** What a process does to be found and to find others: holds its lease for ever, and keeps its table fed. */
import { makeCall } from "../../kernel/call.ts";
import { asFailure } from "../../kernel/error.ts";
import { type Change, type Instance, REGISTRY_LEASE_UNKNOWN, type State } from "./api.ts";
import { type FollowOptions, Follower } from "./follower.ts";
import { Table } from "./table.ts";

export type { FollowOptions } from "./follower.ts";
export { makeResolver } from "./resolver.ts";
export { Table } from "./table.ts";
export { keepTable } from "./table-file.ts";

const RELEASE_MS = 1_000;

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

/**
 * Registers an instance, and again whenever the registry was away, until `signal` aborts. Tells of failures in the log
 * alone.
 */
export function holdLease(options: HoldOptions): Lease {
  const holder = new Holder(options);
  return { table: holder.table, held: holder.held, renew: () => holder.renew(), release: () => holder.release() };
}

/** Keeps a table fed without registering, until `signal` aborts. `first` resolves at the first snapshot. */
export function followTable(options: FollowOptions): { readonly table: Table; readonly first: Promise<void> } {
  const table = options.table ?? new Table();
  const first = Promise.withResolvers<void>();
  const onChange = (change: Change) => {
    if (isWhole(change)) first.resolve();
    options.onChange?.(change);
  };
  const follower = new Follower({ ...options, table, onChange }, (after, call) =>
    options.registry.watch(after === undefined ? {} : { after }, call),
  );
  void follower.run();
  return { table, first: first.promise };
}

/** From here on the table is as whole as the registry's. */
const isWhole = ({ kind }: Change): boolean => kind === "snapshot" || kind === "resumed";

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
      if (isWhole(change)) held.resolve();
      options.onChange?.(change);
    };
    const signal = AbortSignal.any([options.signal, this.#ended.signal]);
    const followed = { ...options, signal, table: this.table, onChange, caller: this.#service };
    this.#follower = new Follower(
      followed,
      (after, call) => {
        const instance = { ...options.instance(), ...this.#health() };
        return options.registry.hold({ instance, ...(after === undefined ? {} : { after }) }, call);
      },
      () => this.#end(),
    );
    void this.#follower.run();
  }

  #end(): void {
    clearInterval(this.#renewals);
    this.#lease = undefined;
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
    // A call that is given up costs its connection, and the next one a handshake: too dear while all is slow.
    const call = makeCall({ caller: this.#service, timeoutMs: lease.ttlMs });
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
    this.#end();
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
      return {
        state: "warning",
        reason: `its health could not be told: ${error instanceof Error ? error.message : String(error)}`.slice(
          0,
          1024,
        ),
      };
    }
  }
}
