/** Wires the bus: its journal, its rules, its doors for MQTT. */
import { Type } from "typebox";
import { watchJournal } from "../../kernel/metrics/watched.ts";
import type { Metrics } from "../../kernel/metrics/metrics.ts";
import { defineService, field } from "../../kernel/service.ts";
import { bus } from "./api.ts";
import { MqttDoors } from "./mqtt.ts";
import { BusService } from "./service.ts";
import { Store } from "./store.ts";

const MIB = 1024 * 1024;

const config = Type.Object(
  {
    sizeBytesMax: field(Type.Integer({ minimum: MIB, default: 1024 * MIB }), {
      description:
        "Bytes the journal may take on the disk. When followers are so far behind that it is full, nothing more is accepted, and nothing is dropped.",
      default: 1024 * MIB,
      example: 8192 * MIB,
    }),
    keepBytes: field(Type.Integer({ minimum: 0, default: 64 * MIB }), {
      description: "About so many bytes of the newest records stay, even when every follower has them.",
      default: 64 * MIB,
      example: 0,
    }),
    followers: field(
      Type.Array(Type.String({ minLength: 1, maxLength: 200 }), { maxItems: 64, default: ["core-data", "pipeline"] }),
      {
        description:
          "Followers for whom everything is kept until they confirm, also before they have been seen for the first time.",
        default: ["core-data", "pipeline"],
        example: ["core-data"],
      },
    ),
    foreignIdsMax: field(Type.Integer({ minimum: 1, maximum: 10_000_000, default: 100_000 }), {
      description:
        "So many of the newest ids of events from others' software are remembered, to keep one that comes twice once.",
      default: 100_000,
      example: 1_000_000,
    }),
  },
  { additionalProperties: false },
);

export const main = defineService({
  contract: bus,
  config,
  needs: [],
  stateful: true,
  doors: [
    { name: "mqtts", port: 8883, when: "always" },
    { name: "mqtt", port: 1883, when: "open-edgex" },
  ],
  async start(context) {
    const { clock, log, tracer, stopping, identity, doors } = context;
    const { sizeBytesMax, keepBytes, followers, foreignIdsMax } = context.config;
    const store = await Store.open({
      directory: context.directory,
      key: (purpose) => context.key(purpose),
      keys: (purpose) => context.keys(purpose),
      sizeBytesMax,
      idsMax: foreignIdsMax,
      wallMs: clock.wallMs(),
      log,
    });
    let mqtt: MqttDoors | undefined;
    const service = new BusService({
      node: context.node,
      store,
      clock,
      log,
      tracer,
      stopping,
      config: { followers, sizeBytesMax, keepBytes },
      mqttClients: () => mqtt?.clients ?? 0,
    });
    watchJournal(context.metrics, "bus", store.journal);
    watchBus(context.metrics, service, () => mqtt?.clients ?? 0);
    try {
      const isOpen = doors["mqtt"] !== undefined || (doors["mqtts"] !== undefined && identity !== undefined);
      if (isOpen || identity) mqtt = await MqttDoors.open({ bus: service, clock, log, stopping });
      if (mqtt && doors["mqtts"] && identity)
        log.info({ port: await mqtt.serveTls(doors["mqtts"], identity) }, "MQTT with certificates is open");
      if (mqtt && doors["mqtt"])
        log.info(
          { port: await mqtt.servePlain(doors["mqtt"]) },
          "MQTT without TLS is open on loopback, for EdgeX's software",
        );
    } catch (error) {
      await mqtt?.close();
      await store.close();
      throw error;
    }
    const persons = mqtt;
    return {
      service: service.operations,
      // MQTT that comes in at the gateway, over WebSockets.
      ...(persons ? { upgrades: { mqtt: (socket, subject) => persons.welcomePerson(socket, subject) } } : {}),
      health: () => service.health(),
      async stop() {
        await mqtt?.close();
        await service.stop();
        await store.close();
      },
    };
  },
});

function watchBus(metrics: Metrics, service: BusService, mqttClients: () => number): void {
  metrics.read("gauge", "holdfast_bus_follower_lag_records", "Records that are not confirmed yet, by follower.", () =>
    service.lags().map(({ follower, records }) => [{ follower }, records]),
  );
  metrics.read("gauge", "holdfast_bus_mqtt_clients", "Clients that are connected by MQTT.", mqttClients);
  metrics.read("counter", "holdfast_bus_messages_refused", "Messages on event topics that were no events.", () => {
    return service.dropped;
  });
}
