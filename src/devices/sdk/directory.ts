/** The device service's own picture of its devices and profiles: made known to core-metadata, kept current by the bus. */
import { createHash } from "node:crypto";
import { makeCall } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { type Device, type DeviceProfile, type Envelope, MAX_RESULT_COUNT, TOPIC } from "../../kernel/edgex.ts";
import { Failure } from "../../kernel/error.ts";
import { forever } from "../../kernel/forever.ts";
import { parseJson, stringifyJson } from "../../kernel/json.ts";
import type { Log } from "../../kernel/log.ts";
import { type Bus, type BusMessage, LISTENING } from "../../services/bus/api.ts";
import type { CoreMetadata } from "../../services/core-metadata/api.ts";
import type { Driver } from "./driver.ts";

const CALL_TIMEOUT_MS = 10_000;
/** Property of a device that tells what the driver made it of, so that a changed config is seen and a person's changes stay. */
const MARK = "holdfast";
const markOf = (device: Device): string =>
  createHash("sha256").update(stringifyJson(device)).digest("hex").slice(0, 16);

export interface DirectoryOptions {
  readonly service: string;
  readonly driver: Driver;
  readonly metadata: CoreMetadata;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Told whenever devices or profiles may have changed. */
  onChange(): void;
}

export class DeviceDirectory {
  readonly devices = new Map<string, Device>();
  readonly profiles = new Map<string, DeviceProfile>();
  readonly #o: DirectoryOptions;
  readonly #done: Promise<void>;
  #synced: () => void = () => undefined;
  /** Resolves when metadata knows the service and this picture is metadata's. */
  readonly synced = new Promise<void>((resolve) => (this.#synced = resolve));

  constructor(options: DirectoryOptions) {
    this.#o = options;
    const { clock, log, signal } = options;
    // What the driver brings is served at once: a node that restarts measures on while core-metadata is still away.
    for (const profile of options.driver.profiles) this.profiles.set(profile.name, profile);
    for (const device of options.driver.devices) this.devices.set(device.name, device);
    this.#done = forever({ what: "keeping up with metadata", clock, log, signal }, () => this.#follow());
  }

  stopped(): Promise<void> {
    return this.#done;
  }

  /** Listens first, then reads: what changes in between comes as a message. */
  async #follow(): Promise<void> {
    const { bus, service, signal } = this.#o;
    const call = makeCall({ caller: service, timeoutMs: Number.POSITIVE_INFINITY, signal });
    const topics = [
      `${TOPIC.systemEvents}/core-metadata/+/+/${service}/#`,
      `${TOPIC.systemEvents}/core-metadata/deviceprofile/delete/#`,
      `edgex/${service}/validate/device`,
    ];
    const messages = bus.listen({ topics, begin: true }, call)[Symbol.asyncIterator]();
    const first = messages.next();
    // A rejection before it is awaited below must not count as unhandled.
    first.catch(() => undefined);
    await this.#register();
    await this.#load();
    this.#synced();
    this.#o.onChange();
    for (let item = await first; !item.done; item = await messages.next()) {
      // What changed between the reading and this moment was told to nobody here: it is read once more.
      if (item.value.topic === LISTENING) await this.#reload();
      else await this.#hear(item.value);
    }
  }

  async #reload(): Promise<void> {
    try {
      await this.#load();
      this.#o.onChange();
    } catch (error) {
      this.#o.log.info({ err: error }, "devices could not be read again from core-metadata");
    }
  }

  /** Takes a message; one that is no EdgeX message costs a log line and nothing else. */
  async #hear({ topic, payload }: BusMessage): Promise<void> {
    try {
      const envelope = parseJson(payload) as Envelope;
      if (topic.endsWith("/validate/device")) return await this.#validate(envelope);
      await this.#changed(topic, envelope);
      this.#o.onChange();
    } catch (error) {
      if (error instanceof Failure && error.kind !== "invalid") throw error;
      this.#o.log.warn({ topic: topic.slice(0, 200), err: error }, "a message cannot be understood");
    }
  }

  async #register(): Promise<void> {
    const { driver, metadata, service } = this.#o;
    const call = () => makeCall({ caller: service, timeoutMs: CALL_TIMEOUT_MS, signal: this.#o.signal });
    const own = { name: service, baseAddress: `https://${service}`, adminState: "UNLOCKED" as const };
    const registered = await known(metadata.serviceByName({ name: service }, call()));
    if (!registered) await this.#mustSucceed(metadata.addServices({ body: [{ service: own }] }, call()));
    else if (registered.service.baseAddress !== own.baseAddress)
      await this.#mustSucceed(
        metadata.patchServices({ body: [{ service: { name: service, baseAddress: own.baseAddress } }] }, call()),
      );
    for (const profile of driver.profiles) {
      const there = await known(metadata.profileByName({ name: profile.name }, call()));
      if (!there) await this.#mustSucceed(metadata.addProfiles({ body: [{ profile }] }, call()));
      // A newer Holdfast may bring more resources; what a person changed in other fields is theirs.
      else if (stringifyJson(there.profile.deviceResources ?? []) !== stringifyJson(profile.deviceResources ?? [])) {
        await this.#mustSucceed(
          metadata.updateProfiles(
            {
              body: [
                {
                  profile: {
                    ...there.profile,
                    deviceResources: profile.deviceResources,
                    deviceCommands: profile.deviceCommands,
                  },
                },
              ],
            },
            call(),
          ),
        );
      }
    }
    for (const device of driver.devices) {
      const found = await known(metadata.deviceByName({ name: device.name }, call()));
      const marked = { ...device, properties: { ...device.properties, [MARK]: markOf(device) } };
      const skip = { bypassValidation: true };
      if (!found)
        await this.#mustSucceed(metadata.addDevices({ body: [{ device: marked }], ...skip, force: false }, call()));
      else if (found.device.properties?.[MARK] !== marked.properties[MARK]) {
        // The driver's config changed since; adminState and the like stay as a person left them.
        const { name, description, protocols, autoEvents, profileName } = device;
        const properties = { ...found.device.properties, ...marked.properties };
        const change = { name, description, protocols, autoEvents, profileName, properties };
        await this.#mustSucceed(metadata.patchDevices({ body: [{ device: change }], ...skip }, call()));
      }
    }
  }

  async #mustSucceed(answer: ReturnType<CoreMetadata["addDevices"]>): Promise<void> {
    for (const item of (await answer) ?? [])
      if (item.statusCode >= 400 && item.statusCode !== 409)
        throw new Error(item.message ?? `status ${item.statusCode}`);
  }

  async #load(): Promise<void> {
    const { metadata, service, signal } = this.#o;
    const call = () => makeCall({ caller: service, timeoutMs: CALL_TIMEOUT_MS, signal });
    const devices: Device[] = [];
    for (let offset = 0; ; offset += MAX_RESULT_COUNT) {
      const page = await metadata.devicesByService({ name: service, offset, limit: MAX_RESULT_COUNT }, call());
      devices.push(...page.devices);
      if (offset + MAX_RESULT_COUNT >= page.totalCount) break;
    }
    for (const name of new Set(devices.flatMap((d) => (d.profileName ? [d.profileName] : []))))
      await this.#loadProfile(name);
    const gone = new Map(this.devices);
    this.devices.clear();
    for (const device of devices) {
      const old = gone.get(device.name);
      gone.delete(device.name);
      this.devices.set(device.name, device);
      if (!old) this.#o.driver.changed?.(device, "add");
      else if (stringifyJson(old) !== stringifyJson(device)) this.#o.driver.changed?.(device, "update");
    }
    for (const device of gone.values()) this.#o.driver.changed?.(device, "delete");
  }

  async #loadProfile(name: string): Promise<void> {
    const call = makeCall({ caller: this.#o.service, timeoutMs: CALL_TIMEOUT_MS, signal: this.#o.signal });
    this.profiles.set(name, (await this.#o.metadata.profileByName({ name }, call)).profile);
  }

  /** Topic: edgex/system-events/core-metadata/<type>/<action>/<owner>[/<profile>]. */
  async #changed(topic: string, { payload }: Envelope): Promise<void> {
    const [type, action] = topic.split("/").slice(3, 5) as [string, "add" | "update" | "delete"];
    const details = (payload as { details?: Device & DeviceProfile }).details;
    if (!details) return;
    if (type === "device") {
      if (action === "delete") this.devices.delete(details.name);
      else {
        if (details.profileName && !this.profiles.has(details.profileName))
          await this.#loadProfile(details.profileName);
        this.devices.set(details.name, details);
      }
      this.#o.driver.changed?.(details, action);
    } else if (type === "deviceprofile") {
      if (action === "delete") this.profiles.delete(details.name);
      else this.profiles.set(details.name, details);
    }
  }

  /** Answers core-metadata's question whether a new device can be served (FACTS: validate round-trip). */
  async #validate(question: Envelope): Promise<void> {
    const { bus, driver, service, signal } = this.#o;
    const reply = { ...question, receivedTopic: "", errorCode: 0 as 0 | 1, payload: null as unknown };
    try {
      driver.validate?.((question.payload as { device: Device }).device);
    } catch (error) {
      Object.assign(reply, {
        errorCode: 1,
        payload: error instanceof Error ? error.message : String(error),
        contentType: "text/plain",
      });
    }
    const call = makeCall({ caller: service, timeoutMs: CALL_TIMEOUT_MS, signal, requestId: question.correlationID });
    await bus.publish(
      {
        body: {
          topic: `${TOPIC.response}/${service}/${question.requestID}`,
          payload: Buffer.from(stringifyJson(reply)),
        },
      },
      call,
    );
  }
}

/** The answer, or undefined where it is "not found". */
async function known<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof Failure && error.kind === "not-found") return undefined;
    throw error;
  }
}
