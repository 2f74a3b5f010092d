/** Methods of gRPC services by their descriptors: messages as JSON and as protobuf. */
import { createFileRegistry, type DescMethod, type FileRegistry, fromBinary, fromJson } from "@bufbuild/protobuf";
import { type JsonValue, toBinary, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { readFile } from "node:fs/promises";
import { fail } from "../../../kernel/error.ts";
import { parseJson, stringifyJson } from "../../../kernel/json.ts";
import { GATEWAY_GRPC_DESCRIPTORS, GATEWAY_GRPC_MESSAGE } from "../grpc.api.ts";

export interface Method {
  /** As HTTP/2 asks for it: `/package.Service/Method`. */
  readonly path: string;
  /** Answers with any number of messages. */
  readonly isStream: boolean;
  /** Makes the message of a JSON text; none is the empty message. GATEWAY_GRPC_MESSAGE. */
  encode(json: Uint8Array | undefined): Uint8Array;
  /** Makes the JSON text of an answer; throws where it is no such message. */
  decode(bytes: Uint8Array): string;
}

export class Schema {
  readonly #registry: FileRegistry;
  readonly #methods = new Map<string, Method>();

  private constructor(registry: FileRegistry) {
    this.#registry = registry;
  }

  /** Reads a FileDescriptorSet with all that it imports; GATEWAY_GRPC_DESCRIPTORS. */
  static async read(file: string): Promise<Schema> {
    try {
      return new Schema(createFileRegistry(fromBinary(FileDescriptorSetSchema, await readFile(file))));
    } catch (cause) {
      throw fail(GATEWAY_GRPC_DESCRIPTORS, "the route's descriptors are not there, or are none", { cause });
    }
  }

  /** The method of `package.Service/Method`; undefined where there is none, or where its questions come in a stream. */
  method(name: string): Method | undefined {
    const known = this.#methods.get(name);
    if (known) return known;
    const [service = "", method = ""] = name.split("/");
    const found = this.#registry.getService(service)?.methods.find((each) => each.name === method);
    if (!found || found.methodKind === "client_streaming" || found.methodKind === "bidi_streaming") return undefined;
    const made = methodOf(name, found, this.#registry);
    this.#methods.set(name, made);
    return made;
  }
}

function methodOf(name: string, { input, output, methodKind }: DescMethod, registry: FileRegistry): Method {
  return {
    path: `/${name}`,
    isStream: methodKind === "server_streaming",
    encode(json) {
      const value = json === undefined ? {} : jsonOf(parseJson(json));
      try {
        return toBinary(input, fromJson(input, value, { registry }));
      } catch (cause) {
        const why = cause instanceof Error ? cause.message.slice(0, 300) : "";
        throw fail(GATEWAY_GRPC_MESSAGE, `the body is no ${input.typeName}: ${why}`, { cause });
      }
    },
    decode: (bytes) => stringifyJson(toJson(output, fromBinary(output, bytes), { registry })),
  };
}

/** Integers beyond 2^53 are texts in protobuf's JSON; both are taken. */
function jsonOf(value: unknown): JsonValue {
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return value.map(jsonOf);
  if (typeof value !== "object" || value === null) return value as JsonValue;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, jsonOf(member)]));
}
