/** Topics: which are journalled, how an event's is made and read, and which a client's role may use. */
import { escapeName, type SeriesNames } from "../../kernel/event-topic.ts";
import { TOPIC } from "../../kernel/edgex.ts";

/** Longest topic that is taken, in bytes of UTF-8 (a journal's key has as many), and the most levels. */
export const TOPIC_BYTES_MAX = 1024;
export const TOPIC_LEVELS_MAX = 32;

/** The topic decides, not the QoS: EdgeX's device services publish events with QoS 0. */
export const isEventTopic = (topic: string): boolean => topic.startsWith("edgex/events/");
export const isSystemEventTopic = (topic: string): boolean => topic.startsWith(`${TOPIC.systemEvents}/`);
const isNotificationTopic = (topic: string): boolean => topic.startsWith("edgex/notifications/");
export const isJournalled = (topic: string): boolean =>
  isEventTopic(topic) || isSystemEventTopic(topic) || isNotificationTopic(topic);

/** Tells whether a topic's last three levels are an event's profile, device and source, raw or escaped. */
export function fitsTopic(topic: string, s: SeriesNames): boolean {
  if (topic.endsWith(`/${s.profileName}/${s.deviceName}/${s.sourceName}`)) return true;
  return topic.endsWith(`/${escapeName(s.profileName)}/${escapeName(s.deviceName)}/${escapeName(s.sourceName)}`);
}

/** The service that an event topic names: `edgex/events/<device|core>/<service>/<profile>/<device>/<source>`. */
export const serviceInTopic = (topic: string): string | undefined => {
  const levels = topic.split("/");
  return levels.length >= 7 && levels[3] ? levels[3] : undefined;
};

/** Why a topic or filter is none; undefined when it is one ([MQTT-4.7.1], [MQTT-4.7.3]). */
export function faultOf(topic: string, wildcards: boolean): string | undefined {
  if (topic.length === 0 || Buffer.byteLength(topic) > TOPIC_BYTES_MAX)
    return `must have 1 to ${TOPIC_BYTES_MAX} bytes`;
  if (topic.includes("\0") || !topic.isWellFormed()) return "must be well-formed text without U+0000";
  const levels = topic.split("/");
  if (levels.length > TOPIC_LEVELS_MAX) return `must have at most ${TOPIC_LEVELS_MAX} levels`;
  for (const [i, level] of levels.entries()) {
    if (!/[+#]/.test(level)) continue;
    if (!wildcards) return "must not contain + or #";
    if (level !== "+" && !(level === "#" && i === levels.length - 1))
      return "may have + as a whole level and # as the last one only";
  }
  return undefined;
}

interface Rights {
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
}

// `%` stands for the client's own name. From EdgeX's topic table (FACTS: topics), each service its own part of it.
const OWN: Rights = {
  publish: ["edgex/telemetry/%/#", "edgex/response/%/#"],
  subscribe: ["edgex/configs/#"],
};
const ROLES: readonly { readonly name: RegExp; readonly rights: Rights }[] = [
  {
    name: /^device-/,
    rights: {
      publish: ["edgex/events/device/%/#", "edgex/system-events/%/#"],
      subscribe: [
        "edgex/device/command/request/%/#",
        "edgex/%/validate/#",
        "edgex/system-events/core-metadata/+/+/%/#",
        "edgex/system-events/core-metadata/deviceprofile/+/#",
      ],
    },
  },
  {
    name: /^app-/,
    rights: {
      publish: ["edgex/events/device/%/#", "edgex/core/command/request/#", "edgex/core/commandquery/request/#"],
      subscribe: ["edgex/events/#", "edgex/system-events/#", "edgex/notifications/#", "edgex/response/core-command/#"],
    },
  },
  {
    name: /^core-metadata$/,
    rights: {
      publish: ["edgex/system-events/%/#", "edgex/+/validate/device"],
      subscribe: ["edgex/response/#", "edgex/system-events/#"],
    },
  },
  {
    name: /^core-data$/,
    rights: { publish: ["edgex/events/core/#"], subscribe: ["edgex/events/#", "edgex/system-events/#"] },
  },
  {
    name: /^core-command$/,
    rights: {
      publish: ["edgex/device/command/request/#"],
      subscribe: [
        "edgex/core/command/request/#",
        "edgex/core/commandquery/request/#",
        "edgex/response/#",
        "edgex/system-events/#",
      ],
    },
  },
  { name: /^(registry|core-keeper)$/, rights: { publish: ["edgex/configs/#"], subscribe: [] } },
  {
    name: /^pipeline$/,
    rights: { publish: ["edgex/notifications/%/#"], subscribe: ["edgex/events/#"] },
  },
  { name: /^support-notifications$/, rights: { publish: [], subscribe: ["edgex/notifications/#"] } },
  {
    name: /^(pipeline|trace|gateway)$/,
    rights: { publish: [], subscribe: ["edgex/events/#", "edgex/system-events/#", "edgex/telemetry/#"] },
  },
  // The loopback door of `--open-edgex`, where nobody has a name.
  { name: /^open-edgex$/, rights: { publish: ["edgex/#"], subscribe: ["edgex/#"] } },
];

/** Tells whether `allowed` matches every topic that `asked` (a filter, or a topic) matches. */
export function covers(allowed: string, asked: string): boolean {
  const a = allowed.split("/");
  const b = asked.split("/");
  for (let i = 0; i < a.length; i++) {
    if (a[i] === "#") return true;
    if (i >= b.length || b[i] === "#" || (a[i] !== "+" && a[i] !== b[i])) return false;
  }
  return a.length === b.length;
}

/** Tells whether a device by its own certificate may: it publishes its own events, and hears nothing. */
export function mayDeviceUse(device: string, action: keyof Rights, topic: string): boolean {
  const own = [device, escapeName(device)].map((name) => `edgex/events/device/+/+/${name}/+`);
  return action === "publish" && faultOf(topic, false) === undefined && own.some((allowed) => covers(allowed, topic));
}

/**
 * Tells whether a client of this name may publish to a topic or subscribe to a filter; what is not allowed is denied.
 */
export function mayUse(client: string, action: keyof Rights, topicOrFilter: string): boolean {
  if (
    client.includes("/") ||
    faultOf(client, false) !== undefined ||
    faultOf(topicOrFilter, action === "subscribe") !== undefined
  )
    return false;
  const lists = [OWN, ...ROLES.filter((r) => r.name.test(client)).map((r) => r.rights)];
  return lists.some((rights) =>
    rights[action].some((allowed) => covers(allowed.replaceAll("%", client), topicOrFilter)),
  );
}
