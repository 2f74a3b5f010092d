/** Checks input and output against a contract's schemas, compiled once at first use. */
import { type TObject, type TSchema, Type } from "typebox";
import { Compile, type Validator } from "typebox/schema";
import { fail, INPUT_INVALID } from "./error.ts";
import { isNanosSchema, nanosOf } from "./nanos.ts";
import { type Fields, type Operation, placementOf } from "./contract.ts";

const compiled = new WeakMap<object, Validator>();

function validatorOf(schema: TSchema): Validator {
  let made = compiled.get(schema);
  if (!made) compiled.set(schema, (made = Compile(schema)));
  return made;
}

/** Throws INPUT_INVALID that names the first field at fault; `what` opens the sentence. */
export function checkValue(schema: TSchema, value: unknown, what: string): void {
  const validator = validatorOf(schema);
  if (validator.Check(value)) return;
  const [first] = validator.Errors(value)[1];
  const at = first?.instancePath.replaceAll("/", ".").replace(/^\./, "") ?? "";
  throw fail(
    INPUT_INVALID,
    `${what}${at ? ` field '${at.slice(0, 200)}'` : ""} ${first?.message ?? "is not of the right form"}`,
  );
}

const objects = new WeakMap<Operation, TObject<Fields>>();

/** Throws INPUT_INVALID unless the operation takes this input; makes bigint of its nanoseconds, in place. */
export function checkInput(op: Operation, input: unknown): void {
  let schema = objects.get(op);
  if (!schema) objects.set(op, (schema = Type.Object(op.input)));
  checkValue(schema, input, "the request's");
  nanosOf(schema, input);
}

const placements = new WeakMap<Operation, ReturnType<typeof placementOf>>();

/** The placement of an operation's fields, computed once. */
export function placed(op: Operation): ReturnType<typeof placementOf> {
  let made = placements.get(op);
  if (!made) placements.set(op, (made = placementOf(op)));
  return made;
}

/** Reads a query parameter's text as its schema's type; undefined when it does not read so (the check then names the field). */
export function readText(text: string, schema: TSchema): unknown {
  const s = schema as { type?: string; items?: TSchema };
  if (isNanosSchema(schema)) return /^-?\d{1,20}$/.test(text) ? BigInt(text) : text;
  switch (s.type) {
    case "integer":
      if (!/^-?\d{1,20}$/.test(text)) return text;
      return Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text);
    case "number":
      return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
    case "boolean":
      return text === "true" ? true : text === "false" ? false : text;
    case "array":
      // EdgeX writes lists in a query with commas (labels=a,b).
      return text === "" ? [] : text.split(",").map((t) => readText(t, s.items ?? { type: "string" }));
    default:
      return text;
  }
}

/** The value a field takes when the query leaves it out. */
export const defaultOf = (schema: TSchema): unknown => (schema as { default?: unknown }).default;
