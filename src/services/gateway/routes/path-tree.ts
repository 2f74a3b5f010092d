/** Finds what stands at a path, segment by segment: literals go before parameters, and these before the rest of a path. */

interface Node<T> {
  readonly literals: Map<string, Node<T>>;
  parameter?: Node<T>;
  /** In order: the first that is accepted counts. */
  readonly here: T[];
  readonly below: T[];
}

const newNode = <T>(): Node<T> => ({ literals: new Map(), here: [], below: [] });

export class PathTree<T> {
  readonly #root: Node<T> = newNode();

  /** Puts a value at a path: null is a parameter; `below`: and at all paths below it. */
  add(segments: readonly (string | null)[], value: T, below = false): void {
    let node = this.#root;
    for (const segment of segments) {
      if (segment === null) node = node.parameter ??= newNode();
      else {
        const next = node.literals.get(segment) ?? newNode();
        node.literals.set(segment, next);
        node = next;
      }
    }
    (below ? node.below : node.here).push(value);
  }

  /** Finds the nearest value that is accepted. At most as many steps as the longest path has, whatever it is asked for. */
  find<A>(segments: readonly string[], from: number, accept: (value: T, asked: A) => boolean, asked: A): T | undefined {
    return seek(this.#root, segments, from, accept, asked);
  }
}

function seek<T, A>(
  node: Node<T>,
  segments: readonly string[],
  at: number,
  accept: (value: T, asked: A) => boolean,
  asked: A,
): T | undefined {
  if (at === segments.length) {
    for (const value of node.here) if (accept(value, asked)) return value;
  } else {
    const segment = segments[at];
    const literal = node.literals.get(segment);
    const found =
      (literal && seek(literal, segments, at + 1, accept, asked)) ??
      (node.parameter && segment !== "" ? seek(node.parameter, segments, at + 1, accept, asked) : undefined);
    if (found !== undefined) return found;
  }
  for (const value of node.below) if (accept(value, asked)) return value;
  return undefined;
}
