/** Topic filters in a tree: whom a topic concerns, without asking every filter ([MQTT-4.7]). */

interface Branch<T> {
  readonly next: Map<string, Branch<T>>;
  /** Whose filter ends here. */
  here: Set<T> | undefined;
  /** Whose filter ends here with `#`. */
  below: Set<T> | undefined;
}

const branch = <T>(): Branch<T> => ({ next: new Map(), here: undefined, below: undefined });

export class TopicTree<T> {
  #root = branch<T>();
  #size = 0;
  /** Grows with every change, so that what was found can be kept until then. */
  version = 0;

  get size(): number {
    return this.#size;
  }

  add(filter: string, value: T): void {
    const levels = filter.split("/");
    let at = this.#root;
    for (const level of levels) {
      if (level === "#") break;
      let next = at.next.get(level);
      if (!next) at.next.set(level, (next = branch()));
      at = next;
    }
    const set = levels.at(-1) === "#" ? (at.below ??= new Set()) : (at.here ??= new Set());
    if (!set.has(value)) this.#size++;
    set.add(value);
    this.version++;
  }

  /** Takes a filter out again, with the branches that nobody needs any more. */
  remove(filter: string, value: T): void {
    const levels = filter.split("/");
    const path: Branch<T>[] = [this.#root];
    for (const level of levels) {
      if (level === "#") break;
      const next = path.at(-1)!.next.get(level);
      if (!next) return;
      path.push(next);
    }
    const last = path.at(-1)!;
    const set = levels.at(-1) === "#" ? last.below : last.here;
    if (!set?.delete(value)) return;
    this.#size--;
    this.version++;
    if (last.here?.size === 0) last.here = undefined;
    if (last.below?.size === 0) last.below = undefined;
    for (let i = path.length - 1; i > 0; i--) {
      const { next, here, below } = path[i];
      if (next.size > 0 || here || below) break;
      path[i - 1].next.delete(levels[i - 1]);
    }
  }

  /** Lists whom a topic concerns, each once however many of its filters match. */
  match(topic: string): Set<T> {
    const found = new Set<T>();
    this.#visit(this.#root, topic.split("/"), 0, (values) => {
      for (const value of values) found.add(value);
      return false;
    });
    return found;
  }

  /** Tells whether a topic concerns anybody. */
  matches(topic: string): boolean {
    return this.#size > 0 && this.#visit(this.#root, topic.split("/"), 0, () => true);
  }

  #visit(at: Branch<T>, levels: readonly string[], depth: number, each: (values: Set<T>) => boolean): boolean {
    // [MQTT-4.7.1-2]: `a/#` matches `a` itself too; [MQTT-4.7.2-1]: a leading wildcard matches no `$` topic.
    const wild = depth > 0 || !levels[0]?.startsWith("$");
    if (at.below && wild && each(at.below)) return true;
    if (depth === levels.length) return at.here !== undefined && each(at.here);
    const plain = at.next.get(levels[depth]);
    if (plain && this.#visit(plain, levels, depth + 1, each)) return true;
    const any = wild ? at.next.get("+") : undefined;
    return any !== undefined && levels[depth] !== "+" && this.#visit(any, levels, depth + 1, each);
  }
}
