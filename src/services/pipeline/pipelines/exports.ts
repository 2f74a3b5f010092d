/**
 * EdgeX's functions at the end of a pipeline: HTTPExport and MQTTExport name a destination, Transform, Compress and Encrypt
 * say in which form batches go. That is the destination's to do, when it sends, so that they are held against its settings.
 */
import { Type } from "typebox";
import { fail } from "../../../kernel/error.ts";
import { PIPELINE_DESTINATION_UNKNOWN, PIPELINE_EXPORT_INVALID } from "../pipelines.api.ts";
import type { PipelineDefinition } from "./definition.ts";

const strict = { additionalProperties: false } as const;
const Format = Type.Union([Type.Literal("json"), Type.Literal("xml"), Type.Literal("cbor"), Type.Literal("columns")]);
const Compression = Type.Union([Type.Literal("gzip"), Type.Literal("zlib"), Type.Literal("zstd")]);
const Encryption = Type.Union([Type.Literal("aes256"), Type.Literal("aes-256-gcm")]);
const Named = Type.String({ minLength: 1, maxLength: 64 });

export const HTTPExport = Type.Object({ function: Type.Literal("HTTPExport"), destination: Named }, strict);
export const MQTTExport = Type.Object({ function: Type.Literal("MQTTExport"), destination: Named }, strict);
export const Transform = Type.Object({ function: Type.Literal("Transform"), type: Format }, strict);
export const Compress = Type.Object({ function: Type.Literal("Compress"), algorithm: Compression }, strict);
export const Encrypt = Type.Object({ function: Type.Literal("Encrypt"), algorithm: Encryption }, strict);

/** What is asked of a destination's settings. */
export interface DestinationForm {
  readonly kind: string;
  readonly format?: string;
  readonly compression?: string;
  readonly encryption?: { readonly algorithm: string } | undefined;
}

const KINDS = { HTTPExport: ["https"], MQTTExport: ["mqtt", "sparkplug"] } as const;

/** Lists where a pipeline's batches go: its destinations, and those that its functions name. */
export function destinationsOf({ destinations, functions }: PipelineDefinition): string[] {
  const named = functions.flatMap((spec) =>
    spec.function === "HTTPExport" || spec.function === "MQTTExport" ? [spec.destination] : [],
  );
  return [...new Set([...destinations, ...named])];
}

/** Holds a definition against the destinations there are. PIPELINE_DESTINATION_UNKNOWN, PIPELINE_EXPORT_INVALID. */
export function checkExports(
  name: string,
  definition: PipelineDefinition,
  known: Readonly<Record<string, DestinationForm>>,
): void {
  const names = destinationsOf(definition);
  if (names.length === 0)
    throw fail(PIPELINE_EXPORT_INVALID, `pipeline '${name}' goes nowhere: name at least one destination`);
  const unknown = names.find((one) => !Object.hasOwn(known, one));
  if (unknown !== undefined)
    throw fail(
      PIPELINE_DESTINATION_UNKNOWN,
      `pipeline '${name}' goes to '${unknown}', which is no destination; there are: ${Object.keys(known).join(", ")}`,
    );
  const mute = names.find((one) => known[one].kind === "otlp");
  if (mute !== undefined)
    throw fail(PIPELINE_EXPORT_INVALID, `pipeline '${name}' goes to '${mute}', which takes telemetry and no events`);
  const wrong = (destination: string, key: string, wanted: string, is: string | undefined) =>
    fail(
      PIPELINE_EXPORT_INVALID,
      `pipeline '${name}' wants ${key} ${wanted} at destination '${destination}', which has ${is ?? "none"}`,
    );
  for (const spec of definition.functions) {
    if (spec.function === "HTTPExport" || spec.function === "MQTTExport") {
      const { kind } = known[spec.destination];
      if (!(KINDS[spec.function] as readonly string[]).includes(kind))
        throw wrong(spec.destination, "kind", KINDS[spec.function].join(" or "), kind);
    }
    const form = formOf(spec);
    if (!form) continue;
    for (const destination of names) {
      const is = form.of(known[destination]);
      // Our cloud takes columns over TLS, and nothing else.
      if (known[destination].kind !== "cloud" && is !== form.wanted)
        throw wrong(destination, form.key, form.wanted, is);
    }
  }
}

interface Form {
  readonly key: string;
  readonly wanted: string;
  readonly of: (destination: DestinationForm) => string | undefined;
}

function formOf(spec: PipelineDefinition["functions"][number]): Form | undefined {
  if (spec.function === "Transform") return { key: "format", wanted: spec.type, of: ({ format }) => format };
  if (spec.function === "Compress")
    return { key: "compression", wanted: spec.algorithm, of: ({ compression }) => compression };
  if (spec.function === "Encrypt")
    return { key: "encryption", wanted: spec.algorithm, of: ({ encryption }) => encryption?.algorithm };
  return undefined;
}
