/** The node's own section of the config, and all sections together. */
import { join } from "node:path";
import { homedir } from "node:os";
import { type Static, Type } from "typebox";
import {
  CONFIG_FILE,
  CONFIG_KEY_UNKNOWN,
  CONFIG_VALUE_INVALID,
  checkConfig,
  type ConfigSection,
  type ConfigValues,
} from "../kernel/config.ts";
import { readConfig, readConfigFile, readYamlFile } from "../kernel/config-file.ts";
import { fail } from "../kernel/error.ts";
import { PCR_MAX } from "../kernel/seal/provider.ts";
import { field } from "../kernel/service.ts";
import { UID_BASE } from "./confine/uids.ts";
import { existsSync } from "node:fs";
import { GUEST_NAME, GuestSpec } from "./guests/spec.ts";
import { allDoors, type Manifest } from "./manifest.ts";

const Port = Type.Integer({ minimum: 0, maximum: 65_535 });
const ServiceKey = Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,62}$" });

const Door = Type.Object(
  {
    host: Type.Optional(
      field(Type.String({ minLength: 1, maxLength: 100 }), {
        description: "IP address to listen on, 127.0.0.1 unless said; doors of `--open-edgex` open on loopback only.",
        default: undefined,
        example: "0.0.0.0",
      }),
    ),
    port: Type.Optional(
      field(Port, { description: "Port to listen on; 0 takes a free one.", default: undefined, example: 9443 }),
    ),
  },
  { additionalProperties: false },
);

const Text = Type.String({ maxLength: 4096 });
const Keys = Type.Object(
  {
    provider: field(
      Type.Union([
        Type.Literal("auto"),
        Type.Literal("tpm"),
        Type.Literal("pkcs11"),
        Type.Literal("passphrase"),
        Type.Literal("key-file"),
      ]),
      {
        description:
          "'auto': the one that sealed the keys; at the first start a passphrase where HOLDFAST_PASSPHRASE_FILE or the systemd credential 'holdfast-passphrase' gives one, else the key file where node.keyFile names one, else the TPM where there is one, else a key file. A change of this key alone changes nothing: 'holdfast keys migrate' does.",
        default: "auto",
        example: "passphrase",
      },
    ),
    tpm: field(
      Type.Object(
        {
          device: field(Text, {
            description: "The TPM 2.0: the kernel's device, or the Unix socket of a software TPM.",
            default: "/dev/tpmrm0",
            example: "/run/swtpm/tpm.sock",
          }),
          pcrs: field(Type.Array(Type.Integer({ minimum: 0, maximum: PCR_MAX }), { maxItems: PCR_MAX + 1 }), {
            description:
              "Registers (PCR, SHA-256) that must be as they were when the keys were sealed; 7 is Secure Boot, none binds the keys to this TPM alone. Taken up by 'holdfast keys reseal'.",
            default: [7],
            example: [7, 11],
          }),
        },
        { additionalProperties: false },
      ),
      { description: "The TPM that seals the keys.", default: {}, example: { pcrs: [7, 11] } },
    ),
    pkcs11: field(
      Type.Object(
        {
          module: field(Text, {
            description: "The PKCS#11 module of the token, a shared library for this machine.",
            default: "",
            example: "/usr/lib/softhsm/libsofthsm2.so",
          }),
          tokenLabel: field(Type.String({ maxLength: 32 }), {
            description: "The token's label.",
            default: "holdfast",
            example: "pump-house-7",
          }),
          keyLabel: field(Type.String({ maxLength: 100 }), {
            description: "Label of the AES key in the token, made where there is none.",
            default: "holdfast",
            example: "holdfast",
          }),
          pinFile: field(Text, {
            description:
              "File or pipe with the user PIN; before it comes the one that HOLDFAST_PIN_FILE names, after it the systemd credential 'holdfast-pin' and the terminal.",
            default: "",
            example: "/run/holdfast/pin",
          }),
        },
        { additionalProperties: false },
      ),
      { description: "The PKCS#11 token that seals the keys.", default: {}, example: { tokenLabel: "pump-house-7" } },
    ),
  },
  { additionalProperties: false },
);

export const NodeConfig = Type.Object(
  {
    name: field(Type.String({ pattern: "^([a-z0-9][a-z0-9-]{0,62})?$" }), {
      description:
        "The node's name in certificates and at the cloud. Chosen at the first start, when it is taken into the certificates, and kept; left out, it is the machine's name with four digits.",
      default: "",
      example: "pump-house-7",
    }),
    logLevel: field(
      Type.Union([Type.Literal("debug"), Type.Literal("info"), Type.Literal("warn"), Type.Literal("error")]),
      {
        description: "What is written to the log book: lines of this level and above. 'info' has one line a request.",
        default: "info",
        example: "debug",
      },
    ),
    keyFile: field(Type.String({ maxLength: 4096 }), {
      description:
        "Where the key file lies, outside of the state directory, best on another medium. Left out: /etc/holdfast/node.key as root, else $XDG_CONFIG_HOME/holdfast/node.key.",
      default: "",
      example: "/media/key/node.key",
    }),
    keys: field(Keys, {
      description: "What seals the key that opens all others; docs/keys.md tells what each is worth.",
      default: {},
      example: { provider: "tpm" },
    }),
    doors: field(Type.Record(Type.String({ pattern: "^[a-z0-9-]+[.][a-z0-9-]+$" }), Door), {
      description:
        "Where the doors to the outside are, as SERVICE.DOOR; the table of doors below has their names and defaults.",
      default: {},
      example: { "gateway.https": { host: "0.0.0.0", port: 443 } },
    }),
    cloud: field(
      Type.Object(
        {
          host: field(Type.String({ maxLength: 100 }), {
            description:
              "IP address the cloud listens on; left out: 127.0.0.1 beside a node, 0.0.0.0 with 'holdfast cloud'.",
            default: "",
            example: "203.0.113.7",
          }),
          port: field(Port, {
            description:
              "Port the cloud listens on; 0: beside a node a free one, chosen at the first start and kept; 8444 with 'holdfast cloud'.",
            default: 0,
            example: 8444,
          }),
        },
        { additionalProperties: false },
      ),
      { description: "The cloud that this command starts.", default: {}, example: { port: 8444 } },
    ),
    connectPorts: field(Type.Record(ServiceKey, Type.Array(Port, { maxItems: 64 })), {
      description:
        "TCP ports outside of the node that a service may connect to, where its sandbox is to allow others than its defaults (the pipeline: 443, 8443 and 8444).",
      default: {},
      example: { pipeline: [9000] },
    }),
    instances: field(Type.Record(ServiceKey, Type.Integer({ minimum: 1, maximum: 16 })), {
      description:
        "How many processes of a service run; one unless said, and always one of a service that owns a store. The gateway: half the cores, at most 4, one below 4 GiB of memory, and one where its CoAP door is open.",
      default: {},
      example: { gateway: 2 },
    }),
    services: field(Type.Record(Type.String({ pattern: GUEST_NAME }), GuestSpec), {
      description:
        "Further services, by their name: programs of others, each with the rights that it is given here (docs/third-party.md).",
      default: {},
      example: { greeter: { file: "/opt/greeter/main.ts", needs: ["bus"] } },
    }),
    uidBase: field(Type.Integer({ minimum: 1000, maximum: 65_000 }), {
      description: "First of the 200 user and group ids that services get where the node is started as root.",
      default: UID_BASE,
      example: 62_000,
    }),
  },
  { additionalProperties: false },
);
export type NodeConfig = Static<typeof NodeConfig>;

/** Lists all sections: the node's, then the services'. */
export const sectionsOf = (manifests: readonly Manifest[]): ConfigSection[] => [
  { key: "node", schema: NodeConfig },
  ...manifests.map(({ name, config }) => ({ key: name, schema: config })),
];

/** Finds the config file: the one named, else HOLDFAST_CONFIG, else holdfast.yaml in the state directory; undefined where there is none. */
export function configFileOf(options: {
  named?: string | undefined;
  env: NodeJS.ProcessEnv;
  state: string;
}): string | undefined {
  const wanted = options.named ?? options.env["HOLDFAST_CONFIG"];
  if (wanted) return wanted;
  const here = join(options.state, CONFIG_FILE);
  return existsSync(here) ? here : undefined;
}

/** Reads the node's own section alone, where nobody knows the services; errors as `loadConfig`. */
export function nodeSectionOf(file: string | undefined): NodeConfig {
  const whole = file === undefined ? {} : (readYamlFile(file) as { node?: unknown });
  return checkConfig(NodeConfig, whole.node ?? {}, "node", file) as NodeConfig;
}

/** Reads the config of all sections; CONFIG_FILE_UNREADABLE, CONFIG_FILE_MALFORMED, CONFIG_KEY_UNKNOWN, CONFIG_VALUE_INVALID. */
export function loadConfig(
  file: string | undefined,
  manifests: readonly Manifest[],
): { values: ConfigValues; node: NodeConfig } {
  const sections = sectionsOf(manifests);
  const values = file === undefined ? readConfig("", CONFIG_FILE, sections) : readConfigFile(file, sections);
  const node = values["node"] as NodeConfig;
  checkDoors(file ?? CONFIG_FILE, manifests, node);
  for (const part of ["connectPorts", "instances"] as const) {
    const stranger = Object.keys(node[part]).find((name) => !manifests.some((m) => m.name === name));
    if (stranger !== undefined)
      throw fail(
        CONFIG_KEY_UNKNOWN,
        `${file ?? CONFIG_FILE}: 'node.${part}.${stranger}' is no service; there are: ${manifests.map((m) => m.name).join(", ")}`,
      );
  }
  return { values, node };
}

/** Refuses doors that are none, and a way from other machines to those that ask nobody who he is. */
function checkDoors(file: string, manifests: readonly Manifest[], node: NodeConfig): void {
  const doors = new Map(manifests.flatMap((m) => allDoors(m).map((door) => [`${m.name}.${door.name}`, door])));
  for (const [name, { host }] of Object.entries(node.doors)) {
    const door = doors.get(name);
    if (!door)
      throw fail(
        CONFIG_KEY_UNKNOWN,
        `${file}: 'node.doors.${name}' is no door; there are: ${[...doors.keys()].join(", ")}`,
      );
    if (door.when !== "always" && host !== undefined && !LOOPBACK.test(host))
      throw fail(
        CONFIG_VALUE_INVALID,
        `${file}: 'node.doors.${name}.host' is '${host}', but a door without TLS opens on loopback only (127.0.0.1 or ::1)`,
      );
  }
}
const LOOPBACK = /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1)$/;

/** Tells where the key file lies. */
export function keyFileOf(
  node: Pick<NodeConfig, "keyFile">,
  env: NodeJS.ProcessEnv,
  asRoot = process.geteuid?.() === 0,
): string {
  if (node.keyFile !== "") return node.keyFile;
  if (asRoot) return "/etc/holdfast/node.key";
  return join(env["XDG_CONFIG_HOME"] || join(env["HOME"] || homedir(), ".config"), "holdfast", "node.key");
}
