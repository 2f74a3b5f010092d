/** core-command's view of metadata: cached on demand, kept current by system events, emptied when one may have been missed. */
import { makeCall } from "../../kernel/call.ts";
import { Cache } from "../../kernel/cache.ts";
import type { Clock } from "../../kernel/clock.ts";
import { type Device, type DeviceProfile, type DeviceService, TOPIC } from "../../kernel/edgex.ts";
import { forever } from "../../kernel/forever.ts";
import type { Log } from "../../kernel/log.ts";
import { type Bus, LISTENING } from "../bus/api.ts";
import type { CoreMetadata } from "../core-metadata/api.ts";
import type { Metadata } from "./service.ts";

const ENTRIES_MAX = 2_048;
/** A change that was missed while the bus was away is known so soon after it is back. */
const RETRY_MS_MAX = 500;

export interface CachedMetadata extends Metadata {
  /** Follows the changes until the signal aborts. */
  follow(options: { bus: Bus; clock: Clock; log: Log; signal: AbortSignal }): Promise<void>;
  /** Its caches by name, for the metrics. */
  readonly caches: Readonly<Record<string, Pick<Cache<unknown>, "hits" | "misses" | "size">>>;
}

/** Makes the cached view of core-metadata. */
export function cacheMetadata(metadata: CoreMetadata): CachedMetadata {
  const devices = new Cache<Device>({ sizeMax: ENTRIES_MAX });
  const profiles = new Cache<DeviceProfile>({ sizeMax: ENTRIES_MAX });
  const services = new Cache<DeviceService>({ sizeMax: ENTRIES_MAX });
  const byType = new Map<string, { clear(): void }>([
    ["device", devices],
    ["deviceprofile", profiles],
    ["deviceservice", services],
  ]);
  const clear = () => byType.forEach((cache) => cache.clear());
  return {
    device: (name, call) => devices.get(name, async () => (await metadata.deviceByName({ name }, call)).device),
    profile: (name, call) => profiles.get(name, async () => (await metadata.profileByName({ name }, call)).profile),
    service: (name, call) => services.get(name, async () => (await metadata.serviceByName({ name }, call)).service),
    devices: (offset, limit, call) => metadata.allDevices({ offset, limit }, call),
    caches: { devices, profiles, services },
    follow: ({ bus, clock, log, signal }) =>
      forever({ what: "following metadata's changes", clock, log, signal, maxMs: RETRY_MS_MAX }, async () => {
        const call = makeCall({ caller: "core-command", timeoutMs: Number.POSITIVE_INFINITY, signal });
        const topics = [`${TOPIC.systemEvents}/core-metadata/#`];
        for await (const { topic } of bus.listen({ topics, begin: true }, call)) {
          // What changed while nobody listened is not known. (While the bus is away what is cached is used on: commands work.)
          if (topic === LISTENING) clear();
          // A changed thing is forgotten whole rather than patched: names stand in the payload, types in the topic.
          else byType.get(topic.split("/")[3] ?? "")?.clear();
        }
      }),
  };
}
