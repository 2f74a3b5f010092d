/**
 * Names that both sides of a call know: those of the fields in its contract's schemas. Between our services a number stands
 * for each, where caller and callee have the very same contract: its digest is in the instance's registration, and again in
 * the type of every body that is written so.
 */
import type { TSchema } from "typebox";
import { placed } from "./check.ts";
import { type Contract, digestOf, type Operation } from "./contract.ts";

/** Names by number, and numbers by name. */
export interface Names {
  readonly list: readonly string[];
  readonly ids: ReadonlyMap<string, number>;
}

/** How an operation is spoken by who knows its names. */
export interface Terms {
  /** Content types of a body, and of a stream of frames. */
  readonly type: string;
  readonly framesType: string;
  readonly body: Names;
  readonly answer: Names;
}

/** Further names of a schema are written out. */
const NAMES_MAX = 1_024;
/** RFC 8949 9.5, with a parameter of ours. */
const PARAMETER = ";names=";
/** In every answer of an EdgeX service. */
const ENVELOPE = ["apiVersion", "statusCode"];

/** Tells whether a content type is of a body that is written with numbers for names, whoever's. */
export const isTerse = (type: string | undefined): boolean => type?.includes(PARAMETER) ?? false;

const digests = new WeakMap<Contract, string>();
const known = new WeakMap<Contract, Map<Operation, Terms>>();

/** Derives a contract's digest, once. */
export function digestKept(contract: Contract): string {
  let digest = digests.get(contract);
  if (digest === undefined) digests.set(contract, (digest = digestOf(contract)));
  return digest;
}

/** Derives the terms of an operation, once. */
export function termsOf(contract: Contract, op: Operation): Terms {
  let all = known.get(contract);
  if (!all) known.set(contract, (all = new Map<Operation, Terms>()));
  let terms = all.get(op);
  if (!terms) all.set(op, (terms = makeTerms(contract, op)));
  return terms;
}

function makeTerms(contract: Contract, op: Operation): Terms {
  const suffix = PARAMETER + digestKept(contract);
  const isStream = op.kind === "stream";
  const inputs = isStream ? Object.values(op.input) : placed(op).body ? [op.input["body"]] : [];
  return {
    type: `application/cbor${suffix}`,
    framesType: `application/vnd.holdfast.frames${suffix}`,
    body: namesOf(inputs, isStream ? Object.keys(op.input) : []),
    answer: namesOf([op.output], contract.edgex ? ENVELOPE : []),
  };
}

/** Gathers the names of schemas, the outer ones first: small numbers are written in one byte. */
function namesOf(schemas: readonly TSchema[], first: readonly string[]): Names {
  const ids = new Map(first.map((name, id) => [name, id]));
  const seen = new Set<unknown>();
  const queue: unknown[] = [...schemas];
  for (const schema of queue) {
    if (typeof schema !== "object" || schema === null || seen.has(schema)) continue;
    seen.add(schema);
    const { properties = {}, patternProperties = {}, additionalProperties, items, anyOf, allOf } = schema as Parts;
    for (const name of Object.keys(properties)) if (!ids.has(name) && ids.size < NAMES_MAX) ids.set(name, ids.size);
    queue.push(...Object.values(properties), ...Object.values(patternProperties), additionalProperties);
    queue.push(...[items, anyOf, allOf].flat());
  }
  return { list: [...ids.keys()], ids };
}

interface Parts {
  readonly properties?: Readonly<Record<string, unknown>>;
  readonly patternProperties?: Readonly<Record<string, unknown>>;
  readonly additionalProperties?: unknown;
  readonly items?: unknown;
  readonly anyOf?: readonly unknown[];
  readonly allOf?: readonly unknown[];
}
