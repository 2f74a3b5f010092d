/** Makes the main of a device service from its driver: all that a new kind of device has to call. */
import { type Static, type TObject } from "typebox";
import { type Call, makeCall } from "../../kernel/call.ts";
import type { Contract } from "../../kernel/contract.ts";
import { nextEpoch } from "../../kernel/epoch.ts";
import { asFailure } from "../../kernel/error.ts";
import { publisherTag } from "../../kernel/events/ids.ts";
import { type Context, defineService, type ServiceMain, type Started } from "../../kernel/service.ts";
import { bus } from "../../services/bus/api.ts";
import { coreMetadata } from "../../services/core-metadata/api.ts";
import { deviceService } from "./api.ts";
import { AutoEvents } from "./autoevents.ts";
import { DeviceDirectory } from "./directory.ts";
import type { Driver } from "./driver.ts";
import { EventPublisher } from "./publisher.ts";
import { makeDeviceService } from "./service.ts";

type DeviceContract = ReturnType<typeof deviceService>;

export interface DeviceOptions<S extends TObject> {
  /** Service name, `device-...`. */
  readonly name: string;
  readonly config: S;
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
    config: options.config,
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
  const publisher = new EventPublisher({
    publisher: { name, epoch: nextEpoch(context.directory, clock) },
    bus: context.connect(bus),
    clock,
    log,
    tracer,
    signal: sending.signal,
  });
  const driver = await options.driver(context, publisher);
  const rules = makeDeviceService({
    driver,
    clock,
    publisher: publisher.publisher,
    tag: publisherTag(node, name),
    device: (device) => directory.devices.get(device),
    profile: (profile) => directory.profiles.get(profile),
    emit: (series, origin, values, extra) => publisher.emit(series, origin, values, extra),
  });
  const autoEvents = new AutoEvents({
    clock,
    log,
    devices: () => directory.devices.values(),
    async fire(device, source, changed) {
      // The bus is away and memory is full: this reading is not taken rather than another one dropped.
      if (publisher.full) return;
      const call: Call = makeCall({ caller: name, timeoutMs: READ_TIMEOUT_MS });
      try {
        const { series, origin, values } = await rules.take(device, source, call);
        if (changed(values)) publisher.emit(series, origin, values);
      } catch (error) {
        log.warn(
          {
            requestId: call.requestId,
            device: device.name,
            source,
            code: asFailure(error).code,
            err: asFailure(error).message,
          },
          "an AutoEvent could not be read",
        );
      }
    },
  });
  const directory = new DeviceDirectory({
    service: name,
    driver,
    metadata: context.connect(coreMetadata),
    bus: context.connect(bus),
    clock,
    log,
    signal: stopping,
    onChange: () => autoEvents.sync(),
  });
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
