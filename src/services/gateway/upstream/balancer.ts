/** Knows the instances of every upstream: of this node's services from the registry, of others from the routes file. */
import type { RoutesFile } from "../routes.api.ts";
import type { Address, Endpoint } from "./endpoint.ts";
import { Group, type GroupOptions } from "./group.ts";
import type { Instances, Known } from "./instances.ts";

export interface BalancerOptions extends Omit<GroupOptions, "name"> {
  readonly instances: Instances;
}

export class Balancer {
  readonly #options: BalancerOptions;
  readonly #groups = new Map<string, Group>();
  /** Those of the routes file. */
  #others: readonly string[] = [];

  constructor(options: BalancerOptions) {
    this.#options = options;
    options.instances.onChange((service, known) => {
      // A name that the routes file gives to others is theirs.
      if (this.#others.includes(service)) return;
      const group = this.group(service);
      group.handedOver = options.instances.isHandedOver(service);
      group.update(known.flatMap(addressOf));
    });
  }

  /** The group of an upstream; empty where nobody knows it. */
  group(name: string): Group {
    let group = this.#groups.get(name);
    if (!group) this.#groups.set(name, (group = new Group({ ...this.#options, name })));
    return group;
  }

  /** Notes how another process of the door found an upstream. */
  learn(upstream: string, open: boolean): void {
    this.#groups.get(upstream)?.breaker?.learn(open);
  }

  get groups(): IterableIterator<Group> {
    return this.#groups.values();
  }

  /** Lists the instances that are known, for the metrics. */
  *all(): Generator<Endpoint> {
    for (const group of this.#groups.values()) yield* group.endpoints;
  }

  /** Takes the settings and the upstreams of a routes file; what it names no more is as if it never had. */
  configure({ services, upstreams }: Pick<RoutesFile, "services" | "upstreams">): void {
    const { instances } = this.#options;
    const before = this.#others;
    this.#others = Object.keys(upstreams);
    for (const [name, { urls, ...settings }] of Object.entries(upstreams)) {
      const group = this.group(name);
      group.configure(settings);
      group.fixed = true;
      group.update(urls.map((url) => addressOfUrl(name, url)));
    }
    for (const name of before)
      if (!this.#others.includes(name)) {
        this.group(name).fixed = false;
        this.group(name).update(instances.of(name).flatMap(addressOf));
      }
    for (const [name, group] of this.#groups) {
      if (this.#others.includes(name)) continue;
      const { operations: _, ...settings } = services[name] ?? { operations: {} };
      group.configure(settings);
    }
    for (const [name, { operations: _, ...settings }] of Object.entries(services))
      if (!this.#groups.has(name)) this.group(name).configure(settings);
  }
}

/** A critical one said that it cannot, a stranger that the registry checks has no certificate; a draining one still answers. */
function addressOf({ instance: i, confirmed }: Known): (Address & { rank: number })[] {
  if (i.state === "critical" || i.maintenance || i.check !== undefined) return [];
  const rank = i.state === "draining" ? 3 : !confirmed || i.state === "unverified" ? 2 : i.state === "passing" ? 0 : 1;
  const { service, instance, host, port } = i;
  return [{ service, instance, host, port, security: "peer", rank }];
}

function addressOfUrl(service: string, text: string): Address & { rank: number } {
  const url = new URL(text);
  const tls = url.protocol === "https:";
  const port = url.port === "" ? (tls ? 443 : 80) : Number(url.port);
  const host = url.hostname.replace(/^\[|\]$/g, "");
  return { service, instance: url.host, host, port, security: tls ? "tls" : "plain", rank: 0 };
}
