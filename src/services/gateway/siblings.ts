/**
 * The other processes of the door: what one of them learns of who fails, who comes how often, which upstream is in trouble
 * and whose session has ended, all of them know. Nobody waits for it: what comes in during a message's time (a few
 * milliseconds) is counted afterwards, and paid for then.
 */
import { makeCall } from "../../kernel/call.ts";
import type { Resolver, Target } from "../../kernel/connect.ts";
import { asFailure } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import type { Gateway } from "./api.ts";
import { type Count, type Debt, type News, NEWS_MAX } from "./siblings.api.ts";
import type { Instances } from "./upstream/instances.ts";

/** A process that does not take it in this time is starting, stopping, or stuck: then it counts by itself. */
const TELL_MS = 1_000;
/** What does not matter yet waits so long for more. */
const COUNTS_WAIT_MS = 100;
/** Between two messages to the same process: a client at its limit costs so many at most. */
const PAUSE_MS = 5;
/** Keys whose counts wait for one process; above it the oldest is left out. */
const COUNTS_MAX = 16_384;

export interface SiblingsOptions {
  readonly instances: Instances;
  /** This process's own instance. */
  readonly instance: string;
  readonly service: string;
  /** The connections to them. */
  readonly agent: Target["agent"];
  readonly connect: (resolver: Resolver) => Pick<Gateway, "tell">;
  /** What one that comes up has missed. */
  readonly debts: () => Iterable<Debt>;
  readonly log: Log;
}

/** What a process has not been told. */
type Waiting = { -readonly [K in keyof News]: News[K][number][] };
const nothing = (): Waiting => ({ tries: [], counts: [], debts: [], breakers: [], ended: [] });

interface Sibling {
  readonly client: Pick<Gateway, "tell">;
  readonly waiting: Waiting;
  /** By limit and key: a client that comes a thousand times is one line. */
  readonly counts: Map<string, Count>;
  telling: boolean;
}

export class Siblings {
  readonly #o: SiblingsOptions;
  readonly #siblings = new Map<string, Sibling>();
  #waits = false;

  constructor(options: SiblingsOptions) {
    this.#o = options;
    const { instances, instance: own, service, agent, connect, debts } = options;
    instances.onChange((changed, known) => {
      if (changed !== service) return;
      // Those of other nodes of a fleet have clients of their own.
      const here = known.map(({ instance }) => instance).filter(({ node }) => node === undefined);
      for (const name of this.#siblings.keys())
        if (!here.some(({ instance }) => instance === name)) this.#siblings.delete(name);
      for (const { instance: name, host, port } of here) {
        if (name === own || this.#siblings.has(name)) continue;
        const target = { instance: name, host, port, agent, secure: true };
        const client = connect({ pick: () => target, failed: () => undefined });
        const sibling = { client, waiting: nothing(), counts: new Map<string, Count>(), telling: false };
        this.#siblings.set(name, sibling);
        sibling.waiting.debts.push(...debts());
        if (sibling.waiting.debts.length > 0) void this.#give(sibling);
      }
    });
  }

  /** Processes of this door that are known, this one among them. */
  get processes(): number {
    return this.#siblings.size + 1;
  }

  /** Tells them of something that they should know at once. */
  tell<K extends "tries" | "breakers" | "ended">(kind: K, item: News[K][number]): void {
    for (const sibling of this.#siblings.values()) {
      const waiting: News[K][number][] = sibling.waiting[kind];
      if (waiting.length >= NEWS_MAX) waiting.shift();
      waiting.push(item);
      void this.#give(sibling);
    }
  }

  /** Notes that a limit let a request of a key through and has room for so many more; tells when that begins to matter to the others. */
  count(limit: string, key: string, remaining: number): void {
    for (const sibling of this.#siblings.values()) {
      const { counts } = sibling;
      const name = `${limit}\n${key}`;
      const before = counts.get(name);
      const count = (before?.count ?? 0) + 1;
      if (!before && counts.size >= COUNTS_MAX) counts.delete(counts.keys().next().value!);
      counts.set(name, { limit, key, count });
      // Were each process to keep as much for itself, half of what remains would be gone unseen.
      if (count * this.processes * 2 >= remaining) void this.#give(sibling);
      else this.#giveLater();
    }
  }

  #giveLater(): void {
    if (this.#waits) return;
    this.#waits = true;
    setTimeout(() => {
      this.#waits = false;
      for (const sibling of this.#siblings.values()) void this.#give(sibling);
    }, COUNTS_WAIT_MS).unref();
  }

  /** One message at a time: what comes meanwhile goes with the next. */
  async #give(sibling: Sibling): Promise<void> {
    if (sibling.telling) return;
    sibling.telling = true;
    for (;;) {
      const news = take(sibling);
      if (!news) break;
      const call = makeCall({ caller: this.#o.service, timeoutMs: TELL_MS });
      try {
        await sibling.client.tell({ body: news }, call);
      } catch (error) {
        this.#o.log.debug({ code: asFailure(error).code }, "another process of the door was not told");
      } finally {
        call.end(false);
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS).unref());
    }
    sibling.telling = false;
  }
}

/** Takes the next message out of what waits; undefined where nothing does. */
function take({ waiting, counts }: Sibling): News | undefined {
  const next = <T>(items: T[]): T[] => items.splice(0, NEWS_MAX);
  const told: Count[] = [];
  for (const [name, count] of counts) {
    if (told.length === NEWS_MAX) break;
    counts.delete(name);
    told.push(count);
  }
  const { tries, debts, breakers, ended } = waiting;
  const news = { tries: next(tries), counts: told, debts: next(debts), breakers: next(breakers), ended: next(ended) };
  return Object.values(news).some((items) => items.length > 0) ? news : undefined;
}
