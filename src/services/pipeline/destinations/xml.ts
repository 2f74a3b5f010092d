/** EdgeX events as XML, element by element what EdgeX's Transform writes (Go's encoding/xml of its Event and BaseReading). */
import type { EdgexEvent, EdgexReading } from "../../../kernel/events/edgex.ts";
import { stringifyJson } from "../../../kernel/json.ts";

// Go's xml.EscapeText.
const ESCAPED: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&#34;",
  "'": "&#39;",
  "\t": "&#x9;",
  "\n": "&#xA;",
  "\r": "&#xD;",
};
// oxlint-disable-next-line no-control-regex -- what XML 1.0 2.2 has no character for
const UNFIT = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g;
const escape = (text: string): string =>
  text
    .toWellFormed()
    .replace(UNFIT, "\ufffd")
    .replace(/[&<>"'\t\n\r]/g, (c) => ESCAPED[c]);

/** Writes an element with a text in it. */
export const element = (name: string, text: string | bigint | number): string =>
  `<${name}>${escape(String(text))}</${name}>`;

/** Writes an event. Binary values are base64, objects JSON: Go writes the bytes as they are, and no objects at all. */
export function eventToXml(event: EdgexEvent): string {
  return [
    "<Event>",
    element("ApiVersion", "v3"),
    element("Id", event.id ?? ""),
    element("DeviceName", event.deviceName),
    element("ProfileName", event.profileName),
    element("SourceName", event.sourceName),
    element("Origin", event.origin),
    ...event.readings.map(readingToXml),
    tagsToXml(event.tags),
    "</Event>",
  ].join("");
}

function readingToXml(reading: EdgexReading): string {
  const { value, binaryValue, objectValue, mediaType, units } = reading;
  return [
    "<Readings>",
    element("Id", reading.id ?? ""),
    element("Origin", reading.origin ?? 0),
    element("DeviceName", reading.deviceName ?? ""),
    element("ResourceName", reading.resourceName ?? ""),
    element("ProfileName", reading.profileName ?? ""),
    element("ValueType", reading.valueType),
    element("Units", units ?? ""),
    tagsToXml(reading.tags),
    element("BinaryValue", (binaryValue as string | null | undefined) ?? ""),
    element("MediaType", mediaType ?? ""),
    element("Value", value ?? ""),
    objectValue === undefined || objectValue === null ? "" : element("ObjectValue", stringifyJson(objectValue)),
    "</Readings>",
  ].join("");
}

function tagsToXml(tags: Readonly<Record<string, unknown>> | null | undefined): string {
  const entries = Object.entries(tags ?? {});
  if (entries.length === 0) return "";
  const inner = entries.map(([key, value]) =>
    element(nameOf(key), typeof value === "string" ? value : stringifyJson(value)),
  );
  return `<Tags>${inner.join("")}</Tags>`;
}

/** Makes an element's name of a tag's: what may not stand in one becomes `_` (XML 1.0 2.3). */
const nameOf = (key: string): string => key.replace(/[^A-Za-z0-9_.-]/g, "_").replace(/^(?![A-Za-z_])/, "_");
