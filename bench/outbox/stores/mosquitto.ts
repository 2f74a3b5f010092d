/** Mosquitto, which saves after every change: a durable session whose client is away. */
import mqtt from "mqtt";
import { startMosquitto as startBroker } from "../../../test/houses/brokers.ts";
import { findCommand } from "../../../test/need.ts";
import { type Store, WINDOW } from "./store.ts";

const TOPIC = "outbox/records";

/** Starts it; undefined where it is not installed. */
export async function startMosquitto(directory: string): Promise<Store | undefined> {
  if (findCommand("mosquitto") === undefined) return undefined;
  // `autosave_interval` counts changes then; its default, 1,800, acknowledges what is not on the disk.
  const durable = [
    "persistence true",
    `persistence_location ${directory}/`,
    "autosave_on_changes true",
    "autosave_interval 1",
  ];
  const lines = [...durable, `max_inflight_messages ${WINDOW}`, "max_queued_messages 0"];
  const broker = await startBroker({ after: () => undefined }, directory, { lines });
  const open = (clientId: string, clean: boolean) =>
    mqtt.connectAsync({ host: "127.0.0.1", port: broker.port, protocol: "mqtt", clientId, clean, reconnectPeriod: 0 });
  const away = await open("uplink", false);
  await away.subscribeAsync(TOPIC, { qos: 1 });
  await away.endAsync();
  const producer = await open("producer", true);
  return {
    name: "Mosquitto, autosave_on_changes true",
    lanes: 2,
    pids: () => [broker.pid],
    async put(records) {
      await Promise.all(records.map((record) => producer.publishAsync(TOPIC, record, { qos: 1 })));
    },
    async drain(count) {
      let left = count;
      const { promise, resolve } = Promise.withResolvers<void>();
      const client = mqtt.connect({
        host: "127.0.0.1",
        port: broker.port,
        protocol: "mqtt",
        clientId: "uplink",
        clean: false,
        reconnectPeriod: 0,
      });
      // From the first moment on: a session's messages may come with its greeting.
      client.on("message", () => {
        if (--left === 0) resolve();
      });
      await promise;
      await client.endAsync();
    },
    async end() {
      await producer.endAsync(true);
      await broker.kill();
    },
  };
}
