/** JSONLogic: conditions as data (jsonlogic.com), checked before they are used, so that none can surprise later. */
import jsonLogic from "json-logic-js";
import { Type } from "typebox";
import { code, fail } from "../../../kernel/error.ts";

export const PIPELINE_LOGIC_INVALID = code(
  "PIPELINE_LOGIC_INVALID",
  "invalid",
  "Correct the JSONLogic; docs/pipelines.md lists the operators and what they see of an event.",
);

/** A condition, e.g. `{">": [{"var": "values.Pressure"}, 80]}`. */
export const Logic = Type.Record(Type.String(), Type.Unknown());
export type Logic = { readonly [operator: string]: unknown };

/** Levels of nesting and nodes of one condition. */
const DEPTH_MAX = 32;
const NODES_MAX = 1_000;

// Those of json-logic-js but "log", which writes to the process's output.
const OPERATORS = new Set(
  (
    "var missing missing_some if ?: and or ! !! == === != !== > >= < <= max min + - * / % " +
    "map reduce filter all none some merge in cat substr"
  ).split(" "),
);

/** Makes the test of a condition. PIPELINE_LOGIC_INVALID where it has an operator that is none, or is too large. */
export function makeLogic(logic: Logic): (data: unknown) => boolean {
  let nodes = 0;
  const check = (node: unknown, depth: number): void => {
    if (++nodes > NODES_MAX || depth > DEPTH_MAX)
      throw fail(PIPELINE_LOGIC_INVALID, `the condition has more than ${NODES_MAX} nodes or ${DEPTH_MAX} levels`);
    if (Array.isArray(node)) return node.forEach((item) => check(item, depth + 1));
    if (typeof node !== "object" || node === null) return;
    const names = Object.keys(node);
    if (names.length !== 1) throw fail(PIPELINE_LOGIC_INVALID, "each part of a condition has one operator and no more");
    const [name] = names;
    if (!OPERATORS.has(name)) throw fail(PIPELINE_LOGIC_INVALID, `'${name.slice(0, 100)}' is no operator of JSONLogic`);
    check((node as Logic)[name], depth + 1);
  };
  check(logic, 0);
  return (data) => jsonLogic.truthy(jsonLogic.apply(logic, data));
}
