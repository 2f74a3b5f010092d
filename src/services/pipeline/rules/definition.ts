/** What a local rule is: a condition on a reading, and what is done at once when it comes to hold. */
import { type Static, Type } from "typebox";
import { field } from "../../../kernel/service.ts";
import { Logic } from "../pipelines/logic.ts";

/** Rules of a node. */
export const RULES_MAX = 256;

const strict = { additionalProperties: false } as const;
const Text = (maxLength = 1_024) => Type.String({ minLength: 1, maxLength });
const Names = Type.Array(Text(), { maxItems: 4_096 });
const Hysteresis = Type.Optional(Type.Number({ minimum: 0 }));
const Scalar = Type.Union([Type.Boolean(), Type.Number(), Type.String({ maxLength: 4_096 })]);

/** A condition: holds above or below a number (and on, until the value is back by `hysteresis`), at a value, or as JSONLogic says. */
const When = Type.Union([
  Type.Object({ above: Type.Number(), hysteresis: Hysteresis }, strict),
  Type.Object({ below: Type.Number(), hysteresis: Hysteresis }, strict),
  Type.Object({ equals: Scalar }, strict),
  Type.Object({ logic: Logic }, strict),
]);

const Command = Type.Object(
  {
    deviceName: Text(),
    commandName: Text(),
    /** Values by resource, as core-command takes them. */
    settings: Type.Record(Text(), Scalar),
  },
  strict,
);

// EdgeX, support-notifications: Notification.
const Notification = Type.Object(
  {
    category: field(Type.String({ pattern: "^[A-Za-z0-9._~-]{1,128}$" }), {
      description: "Category.",
      default: "rule",
      example: "overheat",
    }),
    severity: field(Type.Union([Type.Literal("MINOR"), Type.Literal("NORMAL"), Type.Literal("CRITICAL")]), {
      description: "Severity.",
      default: "NORMAL",
      example: "CRITICAL",
    }),
    content: field(Text(4_096), {
      description: "Text; {rule}, {device}, {resource} and {value} are filled in.",
      default: "{rule}: {device} {resource} is {value}",
      example: "{device} is too hot: {value}",
    }),
    labels: field(Type.Array(Text(), { maxItems: 64 }), { description: "Labels.", default: [], example: ["hall-2"] }),
  },
  strict,
);

export const RuleDefinition = Type.Object(
  {
    devices: field(Names, { description: "Devices that it watches; empty for all.", default: [], example: ["oven-1"] }),
    profiles: field(Names, {
      description: "Profiles whose devices it watches; empty for all.",
      default: [],
      example: ["Oven"],
    }),
    resource: field(Text(), {
      description: "Resource whose readings it looks at.",
      default: undefined,
      example: "Temperature",
    }),
    when: field(When, {
      description:
        "When it acts: {above: N} or {below: N}, either with hysteresis, {equals: VALUE}, or {logic: JSONLogic}.",
      default: undefined,
      example: { above: 80, hysteresis: 5 },
    }),
    forMs: field(Type.Integer({ minimum: 0, maximum: 86_400_000 }), {
      description: "Milliseconds that the condition has to hold before it acts.",
      default: 0,
      example: 30_000,
    }),
    holdOffMs: field(Type.Integer({ minimum: 0, maximum: 86_400_000 }), {
      description: "Milliseconds after it has acted for a device in which it does not act for it again.",
      default: 0,
      example: 60_000,
    }),
    command: Type.Optional(
      field(Command, {
        description: "The command that is given to a device.",
        default: undefined,
        example: { deviceName: "fan-1", commandName: "Speed", settings: { Speed: 100 } },
      }),
    ),
    notification: Type.Optional(
      field(Notification, {
        description: "The notification that is published on the bus, under edgex/notifications/pipeline/CATEGORY.",
        default: undefined,
        example: { category: "overheat", severity: "CRITICAL" },
      }),
    ),
  },
  strict,
);
export type RuleDefinition = Static<typeof RuleDefinition>;
export type When = Static<typeof When>;
