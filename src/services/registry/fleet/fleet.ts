/**
 * The table beyond one machine: each registry shows its own instances to the others on a board that all see, and shows theirs
 * beside its own. Leases stay where their holders are: a death is noticed there, as fast as ever, and only told here. When the
 * board is away the node works on alone.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { makeCall } from "../../../kernel/call.ts";
import { asFailure, fail } from "../../../kernel/error.ts";
import { fullJitterMs } from "../../../kernel/jitter.ts";
import type { Log } from "../../../kernel/log.ts";
import { REGISTRY_FLEET_NAME_TAKEN } from "../codes.ts";
import { type Change, type Instance, UNCONFIRMED_KEPT_MS } from "../instances.api.ts";
import type { Roster } from "../roster.ts";
import { type Board, type Write, WRITES_MAX } from "./board.ts";
import { Others } from "./others.ts";

const SELF = "core-keeper";
const PAUSE = { firstMs: 100, mostMs: 5_000 };
/** Renewed so often within the lease's time, so that one lost renewal ends nothing. */
const RENEWALS = 3;

export interface FleetOptions {
  readonly board: Board;
  readonly roster: Roster;
  readonly node: string;
  /** Tells this machine from another of the same name: a digest of its authority. */
  readonly authority: string;
  /** What this node shows is gone when it has not renewed its lease for so long. */
  readonly ttlMs: number;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** Shows this node and sees the others, from now until `signal` aborts. */
export class Fleet {
  /** Resolves when it has been left, after `signal`. */
  readonly over: Promise<void>;
  readonly #o: FleetOptions;
  readonly #others: Others;
  /** This node's instances, and those of them that the board is yet to be told of. */
  readonly #own = new Map<string, Instance>();
  readonly #untold = new Set<string>();
  #wake = () => {};
  /** Why this node is not shown, or does not see the others. */
  readonly #troubles = new Map<"show" | "see", string>();

  constructor(options: FleetOptions) {
    this.#o = options;
    const { node, roster, log } = options;
    this.#others = new Others({ node, roster, log });
    this.over = this.#run();
  }

  /** What is wrong with the fleet, in words; undefined where nothing is. */
  get trouble(): string | undefined {
    return this.#troubles.values().next().value;
  }

  async #run(): Promise<void> {
    const { board } = this.#o;
    await Promise.all([
      this.#collect(),
      this.#again("show", () => this.#show()),
      this.#again("see", () => this.#see()),
    ]);
    // The lease is left to end by itself: a registry that is only restarted is not missed.
    board.close();
  }

  /** Does it again and again, with pauses that grow; a failure is told once, until it works again. */
  async #again(what: "show" | "see", work: () => Promise<void>): Promise<void> {
    const { signal, log, board } = this.#o;
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        await work();
      } catch (error) {
        if (signal.aborted) return;
        const { code, message } = asFailure(error);
        if (!this.#troubles.has(what)) failures = 0;
        if (this.#troubles.get(what) !== message)
          log.warn({ code }, `${what === "show" ? "not shown to the fleet" : "the fleet is not seen"}: ${message}`);
        this.#troubles.set(what, message);
      }
      const pauseMs = fullJitterMs(failures, PAUSE);
      await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
    log.debug({ board: board.name }, "the fleet was left");
  }

  #works(what: "show" | "see"): void {
    if (this.#troubles.delete(what)) this.#o.log.info({ board: this.#o.board.name }, "the fleet is back");
  }

  /** Keeps `#own` like the part of the table that is this node's. */
  async #collect(): Promise<void> {
    const { roster, signal } = this.#o;
    const call = makeCall({ caller: SELF, timeoutMs: Number.POSITIVE_INFINITY, signal });
    for await (const change of roster.audience.watch(undefined, call)) this.#take(change);
  }

  #take({ kind, instances }: Change): void {
    const own = instances.filter(({ node }) => node === undefined);
    if (kind === "snapshot") {
      const named = new Set(own.map(({ instance }) => instance));
      for (const id of this.#own.keys()) if (!named.has(id)) this.#forget(id);
    }
    for (const instance of own) {
      if (kind === "down") this.#forget(instance.instance);
      else this.#own.set(instance.instance, instance);
      this.#untold.add(instance.instance);
    }
    if (this.#untold.size > 0) this.#wake();
  }

  #forget(id: string): void {
    this.#own.delete(id);
    this.#untold.add(id);
  }

  /** Shows this node, and keeps it shown, until something fails. */
  async #show(): Promise<void> {
    const { board, signal, ttlMs, node } = this.#o;
    await board.check();
    await this.#claim();
    const before = `instances/${node}/`;
    const left = (await board.keys(before)).map((key) => key.slice(before.length));
    for (const id of this.#own.keys()) this.#untold.add(id);
    // Of an earlier life of this registry: its holders are about to register again.
    setTimeout(() => this.#clear(left), UNCONFIRMED_KEPT_MS).unref();
    await this.#tell();
    this.#works("show");
    while (!signal.aborted) {
      await this.#until(ttlMs / RENEWALS);
      await this.#tell();
      await board.renew();
    }
  }

  #clear(ids: readonly string[]): void {
    for (const id of ids) if (!this.#own.has(id)) this.#untold.add(id);
    this.#wake();
  }

  /** Sleeps, or until something is to be told. */
  async #until(ms: number): Promise<void> {
    const woken = Promise.withResolvers<void>();
    const timer = setTimeout(woken.resolve, ms).unref();
    this.#wake = woken.resolve;
    this.#o.signal.addEventListener("abort", this.#wake, { once: true });
    if (this.#untold.size > 0) woken.resolve();
    await woken.promise;
    this.#o.signal.removeEventListener("abort", this.#wake);
    clearTimeout(timer);
  }

  /** A machine of another authority keeps its name; what is left of an earlier life of this one is taken over. */
  async #claim(): Promise<void> {
    const { board, node, authority } = this.#o;
    const key = `nodes/${node}`;
    const standing = await board.read(key);
    if (standing && standing.value !== authority)
      throw fail(REGISTRY_FLEET_NAME_TAKEN, `another machine calls itself '${node}' in the fleet`);
    if (!(await board.claim(key, authority, standing?.revision ?? 0)))
      throw fail(REGISTRY_FLEET_NAME_TAKEN, `another registry took the name '${node}' at the same moment`);
  }

  async #tell(): Promise<void> {
    while (this.#untold.size > 0) {
      const ids = [...this.#untold].slice(0, WRITES_MAX);
      for (const id of ids) this.#untold.delete(id);
      // Where it fails all is told anew when the board is back.
      await this.#o.board.write(ids.map((id) => this.#writeOf(id)));
    }
  }

  #writeOf(id: string): Write {
    const instance = this.#own.get(id);
    const key = `instances/${this.#o.node}/${id}`;
    if (!instance) return { key };
    // Of no use elsewhere: the routes are for this node's gateway, the revision for its watchers.
    const { routes: _, revision: __, ...shown } = instance;
    return { key, value: JSON.stringify({ ...shown, routes: [] }) };
  }

  /** Shows the others here, until something fails. */
  async #see(): Promise<void> {
    const { board, signal, ttlMs } = this.#o;
    try {
      for await (const told of board.follow(signal)) {
        this.#others.found();
        this.#works("see");
        this.#others.take(told);
      }
    } finally {
      // A member that is restarted is a moment; what is away for longer than a lease may be dead.
      this.#others.lost(ttlMs);
    }
  }
}
