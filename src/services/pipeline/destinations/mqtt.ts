/** Sends batches to an MQTT broker, 3.1.1 or 5, with QoS 1: durable when the broker has acknowledged every message. */
import type { MqttConfig } from "./config.ts";
import { Delivery } from "./delivery.ts";
import { MessageMaker } from "./messages.ts";
import { IN_FLIGHT_MAX, MqttConnection } from "./mqtt-connection.ts";
import { makePlaceOf, MQTT_LEVELS } from "./places.ts";
import type { Bytes, Sender } from "./sender.ts";
import type { SenderOptions } from "./senders.ts";
import { SharedConnection } from "./shared-connection.ts";
import { ENCODINGS } from "./envelope.ts";
import { Meter, placeOf } from "./wire.ts";

/** Makes the sender. PIPELINE_DESTINATION_INVALID. */
export function makeMqttSender({ config, node, name, secrets, way }: SenderOptions<MqttConfig>): Sender {
  const meter = new Meter();
  const place = placeOf({ ...config, url: way?.url ?? config.url, secrets, localAddress: way?.localAddress });
  const maker = new MessageMaker({
    node,
    form: config,
    secrets,
    placeOf: makePlaceOf(config.topic, node, MQTT_LEVELS),
  });
  const clientId = config.clientId ?? `holdfast-${node}-${name}`;
  const shared = new SharedConnection(() => MqttConnection.open({ config, clientId, place, meter, secrets }));
  const encoding = ENCODINGS[config.compression];
  const delivery = new Delivery({
    maker,
    get inFlightMax() {
      return shared.current?.inFlightMax ?? IN_FLIGHT_MAX;
    },
    scope: `${node}.${name}`,
    async post({ body, place: topic, requestId }, id) {
      const connection = await shared.get();
      // MQTT has no field for them; the id lets a reader drop what a lost acknowledgement has it get twice.
      const userProperties: Record<string, string> = { messageId: id };
      if (requestId !== undefined) userProperties["requestId"] = requestId;
      if (encoding !== undefined) userProperties["contentEncoding"] = encoding;
      const { retain } = config;
      await connection.publish({
        topic,
        payload: body,
        qos: 1,
        retain,
        contentType: maker.contentType,
        userProperties,
      });
    },
  });
  return {
    get bytes(): Bytes {
      return meter.bytes;
    },
    send: (...of) => delivery.send(...of),
    close: () => shared.close(),
  };
}
