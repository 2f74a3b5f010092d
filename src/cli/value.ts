/** A reading's value as people read it. EdgeX writes floats as 1.234500e+01. */
import type { Reading } from "../kernel/edgex.ts";
import { stringifyJson } from "../kernel/json.ts";
import { plain } from "./text.ts";
import { count } from "./units.ts";

type Valued = Pick<Reading, "valueType" | "value" | "binaryValue" | "objectValue" | "mediaType" | "units">;

/** Writes a value with its unit; nothing in it moves the cursor. */
export function valueOf(reading: Valued): string {
  const text = bareValue(reading);
  const { units } = reading;
  return units && text !== NOTHING ? `${text} ${plain(units)}` : text;
}

const NOTHING = "-";

function bareValue({ valueType, value, binaryValue, objectValue, mediaType }: Valued): string {
  if (binaryValue !== undefined && binaryValue !== null) {
    // Base64 where the answer came as JSON.
    const bytes = typeof binaryValue === "string" ? Buffer.byteLength(binaryValue, "base64") : binaryValue.length;
    return `<${count(bytes, "byte")}${mediaType ? ` of ${plain(mediaType)}` : ""}>`;
  }
  if (objectValue !== undefined && objectValue !== null) return plain(stringifyJson(objectValue));
  if (value === undefined || value === null) return NOTHING;
  return valueType.startsWith("Float") ? floats(value) : plain(value);
}

/** Shortens floats, one or an array of them; a text that is no number stays. */
function floats(text: string): string {
  return plain(text).replace(/-?\d+(?:\.\d+)?e[+-]?\d+/gi, (one) => String(Number(one)));
}
