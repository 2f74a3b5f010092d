/** The topic of an event on the bus: who sent it, and its profile, device and source. */
import { TOPIC } from "./edgex.ts";

/**
 * Strangers choose their services' names, ours are in certificates: this mark, which no certificate's name begins with,
 * keeps their numbers apart (EdgeX's device-virtual and ours may run side by side).
 */
const STRANGER = "~";
/** The publisher that the bus numbers a stranger's events under. */
export const strangerOf = (service: string): string => STRANGER + service;
/** The service's name in a publisher's. */
export const serviceOf = (publisher: string): string =>
  publisher.startsWith(STRANGER) ? publisher.slice(STRANGER.length) : publisher;

// Characters that would change the number of levels or mean a wildcard.
const UNFIT = /[/+#\0]/;
/**
 * Writes a name as a level: raw, as EdgeX does, and percent-encoded as its EnableNameFieldEscape does where raw cannot
 * be.
 */
export const levelOf = (name: string): string => (UNFIT.test(name) ? escapeName(name) : name);
export const escapeName = (name: string): string =>
  encodeURIComponent(name).replace(/[-_.!~*'()]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

export interface SeriesNames {
  readonly profileName: string;
  readonly deviceName: string;
  readonly sourceName: string;
}

/** Makes the topic of a series' events. */
export const eventTopic = (publisher: string, s: SeriesNames, base: string = TOPIC.deviceEvents): string =>
  `${base}/${levelOf(serviceOf(publisher))}/${levelOf(s.profileName)}/${levelOf(s.deviceName)}/${levelOf(s.sourceName)}`;
