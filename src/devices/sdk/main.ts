/** Makes the main of a device service from its driver: all that a new kind of device has to call. */
import { type Static, type TObject } from "typebox";
import { makeCall, newSpanId } from "../../kernel/call.ts";
import type { Contract } from "../../kernel/contract.ts";
import { nextEpoch } from "../../kernel/epoch.ts";
import { asFailure } from "../../kernel/error.ts";
import { publisherTag } from "../../kernel/events/ids.ts";
import type { Log } from "../../kernel/log.ts";
import { type Context, defineService, type ServiceMain, type Started } from "../../kernel/service.ts";
import { bus } from "../../services/bus/api.ts";
import { coreMetadata } from "../../services/core-metadata/api.ts";
import { deviceService } from "./api.ts";
import { AutoEvents, type AutoEventsOptions } from "./autoevents.ts";
import { DeviceDirectory } from "./directory.ts";
import type { Driver } from "./driver.ts";
import { EventPublisher } from "./publisher.ts";
import { type DeviceRules, makeDeviceService } from "./service.ts";

type DeviceContract = ReturnType<typeof deviceService>;

export interface DeviceOptions<S extends TObject> {
  /** Service name, `device-...`. */
  readonly name: string;
  readonly config?: S;
  readonly reads?: readonly string[];
  /** Makes the driver; `publish` sends an event the device itself began (a load generator, a subscription). */
  driver(context: Context<Static<S>>, publisher: EventPublisher): Driver | Promise<Driver>;
}

const READ_TIMEOUT_MS = 10_000;
const FLUSH_TIMEOUT_MS = 3_000;

/** Makes a device service's main. */
export function defineDevice<S extends TObject>(options: DeviceOptions<S>): ServiceMain<DeviceContract, S> {
  return defineService({
    contract: deviceService(options.name),
    ...(options.config ? { config: options.config } : {}),
    needs: ["bus", "core-metadata"],
    stateful: true,
    ...(options.reads ? { reads: options.reads } : {}),
    start: (context) => startDevice(options, context),
  });
}

async function startDevice<S extends TObject>(
  options: DeviceOptions<S>,
  context: Context<Static<S>>,
): Promise<Started<Contract<DeviceContract["operations"]>>> {
  const { clock, log, name, node, stopping, tracer } = context;
  // Events are still sent while the service stops; the publisher's own signal ends it afterwards.
  const sending = new AbortController();
  const made = { name, epoch: nextEpoch(context.directory, clock) };
  const busClient = context.connect(bus);
  const publisher = new EventPublisher({ publisher: made, bus: busClient, clock, log, tracer, signal: sending.signal });
  const driver = await options.driver(context, publisher);
  const metadata = context.connect(coreMetadata);
  const parts = { service: name, driver, metadata, bus: busClient, clock, log, signal: stopping };
  const directory = new DeviceDirectory({ ...parts, onChange: () => autoEvents.sync() });
  const { devices, profiles } = directory;
  const rules = makeDeviceService({
    driver,
    clock,
    publisher: made,
    tag: publisherTag(node, name),
    device: (device) => devices.get(device),
    profile: (profile) => profiles.get(profile),
    emit: (...event) => (publisher.full ? undefined : publisher.emit(...event).sequence),
    pushed: ({ requestId, spanId }, sequence) =>
      tracer.add({
        requestId,
        spanId: newSpanId(),
        parentId: spanId,
        service: name,
        operation: "push",
        startNs: clock.wallNs(),
        durationUs: 0,
        status: 0,
        ranges: [{ publisher: name, epoch: made.epoch, from: sequence, to: sequence }],
      }),
  });
  const autoEvents = new AutoEvents({ clock, log, devices, fire: firing(name, rules, publisher, log) });
  autoEvents.sync();
  return {
    service: rules.api,
    health: () =>
      publisher.full
        ? { state: "warning", reason: "the bus takes no events; readings are skipped" }
        : { state: "passing" },
    async stop() {
      autoEvents.stop();
      await driver.stop?.();
      await publisher.flush(FLUSH_TIMEOUT_MS);
      sending.abort();
      await Promise.all([publisher.stopped(), directory.stopped()]);
    },
  };
}

/** How an AutoEvent takes its turn. A source that cannot be read is said when that begins and when it ends. */
function firing(service: string, rules: DeviceRules, publisher: EventPublisher, log: Log): AutoEventsOptions["fire"] {
  const failing = new Set<string>();
  return async (device, source, changed) => {
    // The bus is away and memory is full: this reading is not taken rather than another one dropped.
    if (publisher.full) return;
    const call = makeCall({ caller: service, timeoutMs: READ_TIMEOUT_MS });
    const about = { requestId: call.requestId, device: device.name, source };
    const key = `${device.name}\u0000${source}`;
    try {
      const taken = await rules.take(device, source, call);
      if (taken && changed(taken.values)) publisher.emit(taken.series, taken.origin, taken.values);
      if (failing.delete(key)) log.info(about, "an AutoEvent can be read again");
    } catch (error) {
      const { code, message } = asFailure(error);
      log[failing.has(key) ? "debug" : "warn"]({ ...about, code, err: message }, "an AutoEvent could not be read");
      failing.add(key);
    } finally {
      call.end(false);
    }
  };
}
