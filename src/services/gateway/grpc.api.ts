/** Settings of the routes file about gRPC: a method of a service, as JSON over HTTP. */
import { type Static, Type } from "typebox";
import { code } from "../../kernel/error.ts";

export const GATEWAY_GRPC_DESCRIPTORS = code(
  "GATEWAY_GRPC_DESCRIPTORS",
  "unavailable",
  "Put the file that the route names into the gateway's folder 'grpc': protoc --include_imports --descriptor_set_out=FILE.",
);
export const GATEWAY_GRPC_MESSAGE = code(
  "GATEWAY_GRPC_MESSAGE",
  "invalid",
  "Send the JSON form of the method's message (protobuf's own: https://protobuf.dev/programming-guides/json/).",
);

export const GrpcSettings = Type.Object(
  {
    upstream: Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$" }),
    /** `package.Service/Method`; `{name}` is what the path found there. */
    method: Type.String({
      pattern: "^[A-Za-z_][A-Za-z0-9_.]*/([A-Za-z_][A-Za-z0-9_]*|\\{[A-Za-z][A-Za-z0-9_]*\\})$",
      maxLength: 512,
    }),
    /** A FileDescriptorSet in the folder `grpc` of the gateway's own directory. */
    descriptors: Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$" }),
  },
  { additionalProperties: false },
);
export type GrpcSettings = Static<typeof GrpcSettings>;
