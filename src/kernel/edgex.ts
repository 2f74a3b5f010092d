/** EdgeX v3's data on the wire, as schemas: what several rooms speak of. Field names are EdgeX's (core-contracts DTOs). */
import { type Static, Type } from "typebox";
import { VALUE_TYPES, type ValueType } from "./events/model.ts";
import { Nanos } from "./nanos.ts";

/** Longest name of a device, profile, resource or service that is taken. */
export const NAME_LENGTH_MAX = 1024;
/** EdgeX's Service.MaxResultCount: what `limit=-1` means, and the most one answer holds. */
export const MAX_RESULT_COUNT = 1024;

/** A name has something to see in it, and no half of a surrogate pair: paths and topics, which are UTF-8, have none. */
export const Name = Type.String({ minLength: 1, maxLength: NAME_LENGTH_MAX, pattern: "^(?=[^]*\\S)\\P{Cs}*$" });
export const Labels = Type.Array(Type.String({ maxLength: NAME_LENGTH_MAX }), { maxItems: 256 });
/** `offset` and `limit` of every list; -1 means MAX_RESULT_COUNT. */
export const Page = {
  offset: Type.Integer({ minimum: 0, default: 0 }),
  limit: Type.Integer({ minimum: -1, maximum: MAX_RESULT_COUNT, default: 20 }),
};
export const Free = Type.Record(Type.String(), Type.Unknown());
const Text = Type.String({ maxLength: 16_384 });
const Millis = Type.Optional(Type.Integer());

export const AdminState = Type.Union([Type.Literal("LOCKED"), Type.Literal("UNLOCKED")]);
export const OperatingState = Type.Union([Type.Literal("UP"), Type.Literal("DOWN"), Type.Literal("UNKNOWN")]);

export const AutoEvent = Type.Object({
  interval: Type.String({ maxLength: 64 }),
  onChange: Type.Optional(Type.Boolean()),
  onChangeThreshold: Type.Optional(Type.Number({ minimum: 0 })),
  sourceName: Name,
  retention: Type.Optional(
    Type.Object({
      maxCap: Type.Optional(Type.Integer()),
      minCap: Type.Optional(Type.Integer()),
      duration: Type.Optional(Text),
    }),
  ),
});
export type AutoEvent = Static<typeof AutoEvent>;

const deviceFields = {
  description: Type.Optional(Text),
  parent: Type.Optional(Text),
  adminState: AdminState,
  operatingState: OperatingState,
  labels: Type.Optional(Type.Union([Labels, Type.Null()])),
  location: Type.Optional(Type.Unknown()),
  serviceName: Name,
  profileName: Type.Optional(Type.String({ maxLength: NAME_LENGTH_MAX })),
  autoEvents: Type.Optional(Type.Union([Type.Array(AutoEvent, { maxItems: 1024 }), Type.Null()])),
  protocols: Type.Record(Type.String(), Free),
  tags: Type.Optional(Type.Union([Free, Type.Null()])),
  properties: Type.Optional(Type.Union([Free, Type.Null()])),
};
export const Device = Type.Object({
  id: Type.Optional(Text),
  name: Name,
  created: Millis,
  modified: Millis,
  ...deviceFields,
});
export type Device = Static<typeof Device>;

export const ResourceProperties = Type.Object({
  valueType: Type.Unsafe<ValueType>({ type: "string", enum: [...VALUE_TYPES] }),
  readWrite: Type.String({ pattern: "^(R|W|RW|WR)$" }),
  units: Type.Optional(Text),
  minimum: Type.Optional(Type.Union([Type.Number(), Type.Null()])),
  maximum: Type.Optional(Type.Union([Type.Number(), Type.Null()])),
  defaultValue: Type.Optional(Text),
  mask: Type.Optional(Type.Union([Type.Integer(), Type.Null()])),
  shift: Type.Optional(Type.Union([Type.Integer(), Type.Null()])),
  scale: Type.Optional(Type.Union([Type.Number(), Type.Null()])),
  offset: Type.Optional(Type.Union([Type.Number(), Type.Null()])),
  base: Type.Optional(Type.Union([Type.Number(), Type.Null()])),
  assertion: Type.Optional(Text),
  mediaType: Type.Optional(Text),
  optional: Type.Optional(Type.Union([Free, Type.Null()])),
});
export const DeviceResource = Type.Object({
  name: Name,
  description: Type.Optional(Text),
  isHidden: Type.Optional(Type.Boolean()),
  properties: ResourceProperties,
  attributes: Type.Optional(Type.Union([Free, Type.Null()])),
  tags: Type.Optional(Type.Union([Free, Type.Null()])),
});
export type DeviceResource = Static<typeof DeviceResource>;
export const ResourceOperation = Type.Object({
  deviceResource: Name,
  defaultValue: Type.Optional(Text),
  mappings: Type.Optional(Type.Union([Type.Record(Type.String(), Type.String()), Type.Null()])),
});
export const DeviceCommand = Type.Object({
  name: Name,
  isHidden: Type.Optional(Type.Boolean()),
  readWrite: Type.String({ pattern: "^(R|W|RW|WR)$" }),
  resourceOperations: Type.Array(ResourceOperation, { minItems: 1, maxItems: 1024 }),
  tags: Type.Optional(Type.Union([Free, Type.Null()])),
});
export type DeviceCommand = Static<typeof DeviceCommand>;
export const DeviceProfile = Type.Object({
  id: Type.Optional(Text),
  name: Name,
  created: Millis,
  modified: Millis,
  manufacturer: Type.Optional(Text),
  description: Type.Optional(Text),
  model: Type.Optional(Text),
  labels: Type.Optional(Type.Union([Labels, Type.Null()])),
  deviceResources: Type.Optional(Type.Union([Type.Array(DeviceResource, { maxItems: 4096 }), Type.Null()])),
  deviceCommands: Type.Optional(Type.Union([Type.Array(DeviceCommand, { maxItems: 4096 }), Type.Null()])),
});
export type DeviceProfile = Static<typeof DeviceProfile>;

export const DeviceService = Type.Object({
  id: Type.Optional(Text),
  name: Name,
  created: Millis,
  modified: Millis,
  description: Type.Optional(Text),
  labels: Type.Optional(Type.Union([Labels, Type.Null()])),
  baseAddress: Type.String({ minLength: 1, maxLength: 2048 }),
  adminState: AdminState,
  properties: Type.Optional(Type.Union([Free, Type.Null()])),
});
export type DeviceService = Static<typeof DeviceService>;

export const Reading = Type.Object({
  id: Type.Optional(Text),
  origin: Nanos,
  deviceName: Name,
  resourceName: Name,
  profileName: Name,
  valueType: Type.String(),
  units: Type.Optional(Text),
  value: Type.Optional(Type.Union([Type.String({ maxLength: 1_048_576 }), Type.Null()])),
  binaryValue: Type.Optional(Type.Union([Type.String(), Type.Unsafe<Uint8Array>({}), Type.Null()])),
  mediaType: Type.Optional(Text),
  objectValue: Type.Optional(Type.Unknown()),
  tags: Type.Optional(Type.Union([Free, Type.Null()])),
});
export type Reading = Static<typeof Reading>;
export const Event = Type.Object({
  apiVersion: Type.Optional(Text),
  id: Text,
  deviceName: Name,
  profileName: Name,
  sourceName: Name,
  origin: Nanos,
  readings: Type.Array(Reading, { minItems: 1, maxItems: 1024 }),
  tags: Type.Optional(Type.Union([Free, Type.Null()])),
});
export type Event = Static<typeof Event>;

/** Base of EdgeX's requests: what multi requests wrap their items in. */
export const requestOf = <K extends string, S extends Parameters<typeof Type.Object>[0][string]>(key: K, schema: S) =>
  Type.Object({ apiVersion: Type.Optional(Text), requestId: Type.Optional(Text), [key]: schema } as {
    apiVersion: typeof OptionalText;
    requestId: typeof OptionalText;
  } & Record<K, S>);
const OptionalText = Type.Optional(Text);

/** One item of a 207 answer. */
export const ItemResult = Type.Object({
  apiVersion: Type.String(),
  requestId: Type.Optional(Type.String()),
  statusCode: Type.Integer(),
  id: Type.Optional(Type.String()),
  message: Type.Optional(Type.String()),
});
export type ItemResult = Static<typeof ItemResult>;
/** The answer of a 207 operation; EdgeX's Go server answers `null` where the list was `null` (FACTS: bootstrap steps 11, 12). */
export const ItemResults = Type.Union([Type.Array(ItemResult), Type.Null()]);

/** Envelope of messages on the bus (FACTS: message bus). */
export interface Envelope {
  apiVersion: "v3";
  receivedTopic: string;
  correlationID: string;
  requestID: string;
  errorCode: 0 | 1;
  payload: unknown;
  contentType: string;
  queryParams?: Record<string, string>;
}

/** Topics under EdgeX's base topic. */
export const TOPIC = {
  deviceEvents: "edgex/events/device",
  coreEvents: "edgex/events/core",
  systemEvents: "edgex/system-events",
  deviceCommandRequest: "edgex/device/command/request",
  commandRequest: "edgex/core/command/request",
  commandQueryRequest: "edgex/core/commandquery/request",
  response: "edgex/response",
} as const;

/** Tells whether an MQTT topic filter matches a topic ([MQTT-4.7]; no `$` topics here). */
export function topicMatches(filter: string, topic: string): boolean {
  const f = filter.split("/");
  const t = topic.split("/");
  for (let i = 0; i < f.length; i++) {
    if (f[i] === "#") return true;
    if (i >= t.length || (f[i] !== "+" && f[i] !== t[i])) return false;
  }
  return f.length === t.length;
}
