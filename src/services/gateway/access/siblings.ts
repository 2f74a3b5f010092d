/** The other processes of the door: what one of them learns of who fails and who came in, all of them know. */
import { makeCall } from "../../../kernel/call.ts";
import type { Resolver, Target } from "../../../kernel/connect.ts";
import { asFailure } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import { type Gateway, TRIES_MAX, type Try } from "../api.ts";
import type { Instances } from "../upstream/instances.ts";

/** A process that does not take it in this time is starting, stopping, or stuck: then it counts by itself. */
const TELL_MS = 1_000;

export interface SiblingsOptions {
  readonly instances: Instances;
  /** This process's own instance. */
  readonly instance: string;
  readonly service: string;
  /** The connections to them. */
  readonly agent: Target["agent"];
  readonly connect: (resolver: Resolver) => Pick<Gateway, "tries">;
  readonly log: Log;
}

interface Sibling {
  readonly client: Pick<Gateway, "tries">;
  /** What it has not been told; the oldest is left out where there is too much. */
  readonly waiting: Try[];
  telling: boolean;
}

export class Siblings {
  readonly #o: SiblingsOptions;
  readonly #siblings = new Map<string, Sibling>();

  constructor(options: SiblingsOptions) {
    this.#o = options;
    const { instances, instance: own, service, agent, connect } = options;
    instances.onChange((changed, known) => {
      if (changed !== service) return;
      const there = new Set(known.map(({ instance }) => instance.instance));
      for (const name of this.#siblings.keys()) if (!there.has(name)) this.#siblings.delete(name);
      for (const { instance } of known) {
        const { instance: name, host, port } = instance;
        if (name === own || this.#siblings.has(name)) continue;
        const target = { instance: name, host, port, agent, secure: true };
        const client = connect({ pick: () => target, failed: () => undefined });
        this.#siblings.set(name, { client, waiting: [], telling: false });
      }
    });
  }

  /** Tells them of a try to say who somebody is; nobody waits for it. */
  tell(tried: Try): void {
    for (const sibling of this.#siblings.values()) {
      if (sibling.waiting.length >= TRIES_MAX) sibling.waiting.shift();
      sibling.waiting.push(tried);
      if (!sibling.telling) void this.#give(sibling);
    }
  }

  /** One message at a time: what comes meanwhile goes with the next. */
  async #give(sibling: Sibling): Promise<void> {
    sibling.telling = true;
    while (sibling.waiting.length > 0) {
      const tries = sibling.waiting.splice(0);
      const call = makeCall({ caller: this.#o.service, timeoutMs: TELL_MS });
      try {
        await sibling.client.tries({ body: { tries } }, call);
      } catch (error) {
        this.#o.log.debug({ code: asFailure(error).code }, "another process of the door was not told of tries");
      } finally {
        call.end(false);
      }
    }
    sibling.telling = false;
  }
}
