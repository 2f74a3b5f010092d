/** What each operation did in a minute or an hour, in few bytes: counts, errors, and a sketch of how long it took. */
import { malformed } from "../../../kernel/columns/bytes.ts";
import { readColumn, writeColumn } from "../../../kernel/columns/column.ts";
import { Reader } from "../../../kernel/columns/reader.ts";
import { Writer } from "../../../kernel/columns/writer.ts";
import type { StoredSpan } from "../api.ts";
import { Sketch } from "./sketch.ts";

export interface Action {
  readonly service: string;
  readonly operation: string;
  errors: number;
  readonly took: Sketch;
}

/** Operations that one summary tells apart; those beyond are counted together, so that made-up names fill nothing. */
const ACTIONS_MAX = 1_024;
const OTHERS = "(others)";
/** Classes of all operations together; nobody's real durations are spread so wide. */
const CLASSES_MAX = 2 ** 21;

/** Actions by service and operation. */
export class Summary {
  readonly #actions = new Map<string, Action>();

  get actions(): Iterable<Action> {
    return this.#actions.values();
  }

  add({ service, operation, durationUs, status }: StoredSpan): void {
    const action = this.#action(service, operation);
    action.took.add(durationUs);
    if (status >= 400) action.errors++;
  }

  merge(other: Summary): void {
    for (const { service, operation, errors, took } of other.actions) {
      const action = this.#action(service, operation);
      action.errors += errors;
      action.took.merge(took);
    }
  }

  encode(): Uint8Array {
    const actions = [...this.#actions.values()];
    const w = new Writer();
    w.varint(actions.length);
    if (actions.length === 0) return w.taken();
    const classes = actions.map(({ took }) => [...took.classes].sort(([a], [b]) => a - b));
    const flat = classes.flat();
    writeColumn(
      w,
      actions.map((a) => a.service),
    );
    writeColumn(
      w,
      actions.map((a) => a.operation),
    );
    writeColumn(
      w,
      actions.map((a) => a.errors),
    );
    writeColumn(
      w,
      actions.map((a) => a.took.max),
    );
    writeColumn(
      w,
      classes.map((of) => of.length),
    );
    writeColumn(
      w,
      flat.map(([at]) => at),
    );
    writeColumn(
      w,
      flat.map(([, count]) => count),
    );
    return w.taken();
  }

  /** Reads what `encode` wrote. EVENTS_MALFORMED. */
  static decode(bytes: Uint8Array): Summary {
    const summary = new Summary();
    const r = new Reader(bytes);
    const count = r.count(ACTIONS_MAX + 1, "operations in a summary");
    if (count === 0) return summary;
    const [services, operations, errors, max, lengths] = Array.from({ length: 5 }, () => readColumn(r, count));
    const total = (lengths as number[]).reduce((sum, length) => sum + length, 0);
    if (!(total > 0 && total <= CLASSES_MAX)) throw malformed(`${total} classes of durations; at most ${CLASSES_MAX}`);
    const classes = readColumn(r, total) as number[];
    const counts = readColumn(r, total) as number[];
    for (let i = 0, at = 0; i < count; i++) {
      const action = summary.#action(services[i] as string, operations[i] as string);
      action.errors += errors[i] as number;
      for (let left = lengths[i] as number; left > 0; left--, at++) action.took.put(classes[at], counts[at]);
      action.took.max = Math.max(action.took.max, max[i] as number);
    }
    return summary;
  }

  #action(service: string, operation: string): Action {
    const key = `${service} ${operation}`;
    const known = this.#actions.get(key);
    if (known) return known;
    if (this.#actions.size >= ACTIONS_MAX && operation !== OTHERS) return this.#action(OTHERS, OTHERS);
    const action = { service, operation, errors: 0, took: new Sketch() };
    this.#actions.set(key, action);
    return action;
  }
}
