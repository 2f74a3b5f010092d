/** Topics and subjects out of templates: {node}, {publisher}, {profile}, {device} and {source} are filled in. */
import type { Block } from "../../../kernel/events/model.ts";
import { fail } from "../../../kernel/error.ts";
import { PIPELINE_DESTINATION_INVALID } from "./wire.ts";

/** How a protocol writes a name as one level. */
export interface Levels {
  /** Characters that would end a level or mean a wildcard. */
  readonly unfit: RegExp;
  readonly bytesMax: number;
}

/** [MQTT-4.7.1], [MQTT-1.5.4-2]; brokers take topics of 65,535 bytes. */
export const MQTT_LEVELS: Levels = { unfit: /[/+#\0]/g, bytesMax: 65_535 };
/** NATS: tokens end at dots, and no white space is in a subject; the server's line is of 4,096 bytes, with a reply subject. */
export const NATS_LEVELS: Levels = { unfit: /[.*>%\s\0]/g, bytesMax: 2_048 };

const NAMES: Readonly<Record<string, (block: Block, node: string) => string>> = {
  node: (_, node) => node,
  // `~` marks publishers of strangers, who chose their names themselves.
  publisher: ({ publisher }) => publisher.name.replace(/^~/, ""),
  profile: ({ series }) => series.profileName,
  device: ({ series }) => series.deviceName,
  source: ({ series }) => series.sourceName,
};

/**
 * Makes what fills in a template. Names are written as they are; characters that cannot stand in a level are
 * percent-encoded, as EdgeX's EnableNameFieldEscape does. PIPELINE_DESTINATION_INVALID for a name that is none.
 */
export function makePlaceOf(template: string, node: string, { unfit, bytesMax }: Levels): (block: Block) => string {
  for (const [, name] of template.matchAll(/\{([^}]*)\}/g))
    if (!Object.hasOwn(NAMES, name))
      throw fail(
        PIPELINE_DESTINATION_INVALID,
        `'${template}' has {${name}}; there are {${Object.keys(NAMES).join("}, {")}}`,
      );
  const escape = (text: string) =>
    text.replace(unfit, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`);
  return (block) => {
    const place = template.replace(/\{([a-z]+)\}/g, (_, name: string) => escape(NAMES[name](block, node)));
    if (Buffer.byteLength(place) > bytesMax)
      throw fail(PIPELINE_DESTINATION_INVALID, `the name '${place.slice(0, 64)}...' has over ${bytesMax} bytes`);
    return place;
  };
}
