/** What other nodes of the fleet show: in the table as instances of theirs, which this node's services do not call. */
import { checkValue } from "../../../kernel/check.ts";
import { asFailure } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import { Instance } from "../instances.api.ts";
import type { Roster } from "../roster.ts";
import type { Told } from "./board.ts";

const UNSEEN = "its node cannot be seen: the fleet's board is away";

export interface OthersOptions {
  readonly node: string;
  readonly roster: Roster;
  readonly log: Log;
}

/** A node, as far as its keys came: shown only where its claim is there, too. */
interface Node {
  isThere: boolean;
  readonly instances: Map<string, Instance>;
}

export class Others {
  readonly #o: OthersOptions;
  readonly #nodes = new Map<string, Node>();
  #leaving: NodeJS.Timeout | undefined;
  #isLost = false;

  constructor(options: OthersOptions) {
    this.#o = options;
  }

  take(told: Told): void {
    if (told.kind === "put") this.#put(told.entry.key, told.entry.value);
    else if (told.kind === "gone") this.#gone(told.key);
    else {
      const named = new Set(told.entries.map(({ key }) => key));
      for (const key of this.#keys()) if (!named.has(key)) this.#gone(key);
      for (const { key, value } of told.entries) this.#put(key, value);
    }
  }

  /** Told that nothing comes from the board any more: after a while nobody knows how they are. */
  lost(afterMs: number): void {
    this.#leaving ??= setTimeout(() => {
      this.#isLost = true;
      this.#showAll();
    }, afterMs).unref();
  }

  found(): void {
    clearTimeout(this.#leaving);
    this.#leaving = undefined;
    if (!this.#isLost) return;
    this.#isLost = false;
    this.#showAll();
  }

  #put(key: string, value: string): void {
    const [kind, name, id] = partsOf(key);
    if (name === undefined || name === this.#o.node) return;
    const node = this.#node(name);
    if (kind === "nodes" && id === undefined && !node.isThere) {
      node.isThere = true;
      for (const instance of node.instances.values()) this.#show(name, instance);
    }
    if (kind !== "instances" || id === undefined) return;
    const instance = this.#read(key, value);
    if (!instance) return;
    node.instances.set(id, instance);
    if (node.isThere) this.#show(name, instance);
  }

  #gone(key: string): void {
    const [kind, name, id] = partsOf(key);
    const node = name === undefined ? undefined : this.#nodes.get(name);
    if (name === undefined || !node) return;
    if (kind === "nodes") {
      node.isThere = false;
      for (const { instance } of node.instances.values()) this.#hide(name, instance);
    } else if (id !== undefined) {
      const instance = node.instances.get(id);
      node.instances.delete(id);
      if (instance) this.#hide(name, instance.instance);
    }
    if (!node.isThere && node.instances.size === 0) this.#nodes.delete(name);
  }

  #keys(): string[] {
    return [...this.#nodes].flatMap(([name, { isThere, instances }]) => [
      ...(isThere ? [`nodes/${name}`] : []),
      ...[...instances.keys()].map((id) => `instances/${name}/${id}`),
    ]);
  }

  #node(name: string): Node {
    let node = this.#nodes.get(name);
    if (!node) this.#nodes.set(name, (node = { isThere: false, instances: new Map() }));
    return node;
  }

  #showAll(): void {
    for (const [name, { isThere, instances }] of this.#nodes)
      if (isThere) for (const instance of instances.values()) this.#show(name, instance);
  }

  #show(node: string, instance: Instance): void {
    const { reason: _, ...rest } = instance;
    try {
      this.#o.roster.show({
        ...(this.#isLost ? { ...rest, state: "unverified" as const, reason: UNSEEN } : instance),
        instance: `${node}/${instance.instance}`,
        node,
        check: "node",
      });
    } catch (error) {
      // REGISTRY_FULL: this node's own come first.
      this.#o.log.warn(
        { code: asFailure(error).code, node },
        `an instance of the fleet is not shown: ${asFailure(error).message}`,
      );
    }
  }

  #hide(node: string, instance: string): void {
    this.#o.roster.remove(`${node}/${instance}`);
  }

  /** Other machines wrote it, of other versions maybe. */
  #read(key: string, value: string): Instance | undefined {
    try {
      const instance: unknown = JSON.parse(value);
      checkValue(Instance, instance, `'${key}'`);
      return instance as Instance;
    } catch (error) {
      this.#o.log.warn({ key }, `what the fleet's board says is not understood: ${asFailure(error).message}`);
      return undefined;
    }
  }
}

/** `nodes/NODE` and `instances/NODE/INSTANCE`. */
function partsOf(key: string): [kind: string, node?: string, instance?: string] {
  const [kind = "", node, instance] = key.split("/");
  return [kind, node, instance];
}
