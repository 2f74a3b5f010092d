/** What a person grants a service of somebody else's: `holdfast run`'s options, and a section of `node.services`. */
import { type Static, Type } from "typebox";
import { code } from "../../kernel/error.ts";
import { field } from "../../kernel/service.ts";

export const NODE_GUEST_FILE_MISSING = code(
  "NODE_GUEST_FILE_MISSING",
  "not-found",
  "Name the service's file, or its folder with a main.ts or main.js in it.",
);
export const NODE_GUEST_UNUSABLE = code(
  "NODE_GUEST_UNUSABLE",
  "invalid",
  "Correct what the message names; docs/third-party.md has a whole service to begin with.",
);
export const NODE_GUEST_NEED_UNKNOWN = code(
  "NODE_GUEST_NEED_UNKNOWN",
  "invalid",
  "Name services that the message lists; 'bus:edgex/events/#' adds topics to be heard.",
);
export const NODE_GUEST_NEED_MISSING = code(
  "NODE_GUEST_NEED_MISSING",
  "forbidden",
  "Give the service what it needs with --needs (node.services.NAME.needs), or take one that needs less.",
);
export const NODE_GUEST_NAME_TAKEN = code(
  "NODE_GUEST_NAME_TAKEN",
  "conflict",
  "Choose another name with --name; 'holdfast status' lists those that run.",
);
export const NODE_GUESTS_TOO_MANY = code(
  "NODE_GUESTS_TOO_MANY",
  "limited",
  "End one of the services that were started with 'holdfast run', or name them in node.services and start the node anew.",
);

const MIB = 1024 * 1024;
const Text = Type.String({ minLength: 1, maxLength: 4096 });
const Port = Type.Integer({ minimum: 0, maximum: 65_535 });

/** How a service is called; longer than a DNS label is nobody's name. */
export const GUEST_NAME = "^[a-z0-9][a-z0-9-]{0,62}$";

export const GuestSpec = Type.Object(
  {
    file: field(Text, {
      description: "The service's file (TypeScript or JavaScript), or its folder; relative to the config file.",
      default: undefined,
      example: "/opt/greeter/main.ts",
    }),
    needs: field(Type.Array(Type.String({ minLength: 1, maxLength: 200 }), { maxItems: 32 }), {
      description:
        "Services that it may call; no other takes its certificate. 'bus:FILTER' lets it hear topics beside its own.",
      default: [],
      example: ["bus", "bus:edgex/events/#"],
    }),
    doors: field(
      Type.Record(
        Type.String({ pattern: "^[a-z0-9-]{1,63}$" }),
        Type.Object(
          {
            host: field(Type.String({ minLength: 1, maxLength: 100 }), {
              description: "IP address to listen on.",
              default: "127.0.0.1",
              example: "0.0.0.0",
            }),
            port: field(Port, { description: "Port to listen on.", default: 0, example: 9443 }),
          },
          { additionalProperties: false },
        ),
      ),
      {
        description: "Which of its doors open, and where; no other does.",
        default: {},
        example: { http: { port: 9443 } },
      },
    ),
    connectPorts: field(Type.Array(Port, { maxItems: 64 }), {
      description: "TCP ports outside of the node that it may connect to.",
      default: [],
      example: [502],
    }),
    names: field(Type.Boolean(), {
      description: "Whether it may resolve host names, and for that open UDP sockets.",
      default: false,
      example: true,
    }),
    reads: field(Type.Array(Text, { maxItems: 32 }), {
      description: "Files and folders of the machine that it may read.",
      default: [],
      example: ["/sys/class/thermal"],
    }),
    secrets: field(Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { maxItems: 32 }), {
      description: "Secrets (holdfast secret set) that it gets, as context.secrets['secret:NAME'].",
      default: [],
      example: ["plc-password"],
    }),
    memoryBytesMax: field(Type.Integer({ minimum: 32 * MIB, maximum: 65_536 * MIB }), {
      description:
        "Memory for its heap and buffers; past it allocations fail, and the service ends and is started again.",
      default: 256 * MIB,
      example: 128 * MIB,
    }),
    config: field(Type.Object({}, { additionalProperties: true }), {
      description: "The service's own config, which it checks itself.",
      default: {},
      example: { greeting: "Good morning" },
    }),
  },
  { additionalProperties: false },
);
export type GuestSpec = Static<typeof GuestSpec>;
