/** An EdgeX device service as an unmodified one behaves: MQTT 3.1.1 with QoS 0, commands over plain HTTP, no registry. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { closeSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import mqtt, { type MqttClient } from "mqtt";
import { parseJson, stringifyJson } from "../../src/kernel/json.ts";
import { freePort } from "./ports.ts";
import { listenTcp } from "../../src/node/confine/listen.ts";

/** EdgeX's ports, which its software has in its configuration. */
export const EDGEX_PORTS = {
  "core-keeper": 59_890,
  "core-data": 59_880,
  "core-metadata": 59_881,
  "core-command": 59_882,
  mqtt: 1883,
} as const;
export type EdgexPorts = Readonly<Record<keyof typeof EDGEX_PORTS, number>>;

const portOf = (port: number): number => {
  const listening = listenTcp({ host: "127.0.0.1", port });
  closeSync(listening.fd);
  return listening.port;
};

/** Ports for `--open-edgex` that are free now. */
export const freePorts = (): EdgexPorts =>
  Object.fromEntries(Object.keys(EDGEX_PORTS).map((name) => [name, freePort()])) as unknown as EdgexPorts;

/** EdgeX's own ports where all are free, others where a program of this machine has one of them. */
export function edgexPorts(): EdgexPorts {
  try {
    Object.values(EDGEX_PORTS).forEach(portOf);
    return EDGEX_PORTS;
  } catch {
    return freePorts();
  }
}

/** Says them in the config's words, for `node.doors`. */
export const doorsOf = (ports: EdgexPorts): Record<string, { port: number }> => ({
  "core-keeper.edgex": { port: ports["core-keeper"] },
  "core-data.edgex": { port: ports["core-data"] },
  "core-metadata.edgex": { port: ports["core-metadata"] },
  "core-command.edgex": { port: ports["core-command"] },
  "bus.mqtt": { port: ports.mqtt },
});

export interface Message {
  readonly topic: string;
  readonly text: string;
  /** The envelope, exact. */
  readonly envelope: Readonly<Record<string, unknown>>;
}

export interface Command {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly correlationId: string | undefined;
  readonly body: unknown;
}

/** What the service does with a command: the status and the body of its answer. */
export type Obey = (command: Command) => { status: number; body?: unknown };

export interface DeviceServiceOptions {
  readonly name: string;
  readonly mqttPort: number;
  /** Why a device is refused; undefined where it is taken. */
  readonly refuse: (device: Record<string, unknown>) => string | undefined;
  readonly obey: Obey;
}

export class EdgexDeviceService {
  readonly name: string;
  readonly messages: Message[] = [];
  readonly commands: Command[] = [];
  readonly #options: DeviceServiceOptions;
  readonly #server: Server;
  readonly #client: MqttClient;

  private constructor(options: DeviceServiceOptions, server: Server, client: MqttClient) {
    this.#options = options;
    this.name = options.name;
    this.#server = server;
    this.#client = client;
  }

  /** Starts it: first its own HTTP server, then MQTT, with the filters that it listens to. */
  static async start(options: DeviceServiceOptions): Promise<EdgexDeviceService> {
    const { name, mqttPort } = options;
    const server = createServer();
    await once(server.listen(0, "127.0.0.1"), "listening");
    const client = await mqtt.connectAsync({
      host: "127.0.0.1",
      port: mqttPort,
      protocol: "mqtt",
      protocolVersion: 4,
      clientId: name,
      keepalive: 10,
      clean: true,
      reconnectPeriod: 0,
    });
    const service = new EdgexDeviceService(options, server, client);
    server.on("request", (request, response) => void service.#answer(request, response));
    client.on("message", (topic, payload) => service.#take(topic, payload.toString()));
    const granted = await client.subscribeAsync([
      `edgex/device/command/request/${name}/#`,
      `edgex/system-events/core-metadata/+/+/${name}/#`,
      "edgex/system-events/core-metadata/deviceprofile/delete/#",
      `edgex/${name}/validate/device`,
    ]);
    if (granted.some(({ qos }) => qos > 2)) throw new Error(`a filter was refused: ${JSON.stringify(granted)}`);
    return service;
  }

  get baseAddress(): string {
    return `http://localhost:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Publishes an event as the SDK does. */
  async publish(event: { profileName: string; deviceName: string; sourceName: string }, payload: string | Buffer) {
    const topic = `edgex/events/device/${this.name}/${event.profileName}/${event.deviceName}/${event.sourceName}`;
    await this.#client.publishAsync(topic, payload, { qos: 0 });
  }

  async stop(): Promise<void> {
    await this.#client.endAsync();
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, body } = await this.#command(request);
    response.writeHead(status, { "content-type": "application/json" });
    response.end(body === undefined ? undefined : stringifyJson(body));
  }

  async #command(request: IncomingMessage): Promise<ReturnType<Obey>> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const url = new URL(request.url ?? "/", "http://device");
    const bytes = Buffer.concat(chunks);
    const command: Command = {
      method: request.method ?? "",
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      correlationId: request.headers["x-correlation-id"] as string | undefined,
      body: bytes.length > 0 ? parseJson(bytes) : undefined,
    };
    this.commands.push(command);
    return this.#options.obey(command);
  }

  #take(topic: string, text: string): void {
    const message = { topic, text, envelope: parseJson(text) as Message["envelope"] };
    this.messages.push(message);
    if (topic.endsWith("/validate/device")) void this.#validate(message.envelope);
  }

  /** Answers core-metadata's question whether this service takes a device. */
  async #validate({ requestID, correlationID, payload }: Message["envelope"]): Promise<void> {
    const { device } = payload as { device: Record<string, unknown> };
    const why = this.#options.refuse(device);
    const answer = envelopeOf(why ?? null, {
      correlationID,
      requestID,
      ...(why === undefined ? {} : { errorCode: 1, contentType: "text/plain" }),
    });
    await this.#client.publishAsync(`edgex/response/${this.name}/${String(requestID)}`, stringifyJson(answer), {
      qos: 0,
    });
  }
}

/** EdgeX's envelope around a payload. */
export const envelopeOf = (payload: unknown, more: Record<string, unknown> = {}): Record<string, unknown> => ({
  apiVersion: "v3",
  receivedTopic: "",
  correlationID: randomUUID(),
  requestID: "",
  errorCode: 0,
  payload,
  contentType: "application/json",
  ...more,
});

/** EdgeX's request around one thing, as the members of a multi request are. */
export const requestOf = (key: string, thing: object): Record<string, unknown> => ({
  apiVersion: "v3",
  requestId: randomUUID(),
  [key]: thing,
});
