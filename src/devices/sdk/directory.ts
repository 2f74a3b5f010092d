/** The device service's own picture of its devices and profiles: made known to core-metadata, kept current by the bus. */
import { makeCall } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { type Device, type DeviceProfile, type Envelope, MAX_RESULT_COUNT, TOPIC } from "../../kernel/edgex.ts";
import { Failure } from "../../kernel/error.ts";
import { forever } from "../../kernel/forever.ts";
import { parseJson, stringifyJson } from "../../kernel/json.ts";
import type { Log } from "../../kernel/log.ts";
import type { Bus } from "../../services/bus/api.ts";
import type { CoreMetadata } from "../../services/core-metadata/api.ts";
import type { Driver } from "./driver.ts";

const CALL_TIMEOUT_MS = 10_000;

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
    const messages = bus.listen({ topics }, call)[Symbol.asyncIterator]();
    const first = messages.next();
    // A rejection before it is awaited below must not count as unhandled.
    first.catch(() => undefined);
    await this.#register();
    await this.#load();
    this.#synced();
    this.#o.onChange();
    for (let item = await first; !item.done; item = await messages.next()) {
      const { topic, payload } = item.value;
      if (topic.endsWith("/validate/device")) await this.#validate(payload);
      else {
        await this.#changed(topic, parseJson(payload) as Envelope);
        this.#o.onChange();
      }
    }
  }

  async #register(): Promise<void> {
    const { driver, metadata, service } = this.#o;
    const call = () => makeCall({ caller: service, timeoutMs: CALL_TIMEOUT_MS, signal: this.#o.signal });
    const own = { name: service, baseAddress: `https://${service}`, adminState: "UNLOCKED" as const };
    if (!(await known(metadata.serviceByName({ name: service }, call()))))
      await metadata.addServices({ body: [{ service: own }] }, call());
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
      if (await known(metadata.deviceByName({ name: device.name }, call()))) continue;
      await this.#mustSucceed(
        metadata.addDevices({ body: [{ device }], bypassValidation: true, force: false }, call()),
      );
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
    this.devices.clear();
    for (const device of devices) {
      this.devices.set(device.name, device);
      this.#o.driver.changed?.(device, "add");
    }
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
  async #validate(payload: Uint8Array): Promise<void> {
    const { bus, driver, service, signal } = this.#o;
    const question = parseJson(payload) as Envelope;
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
