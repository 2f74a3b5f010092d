/** Wires core-command. */
import { Agent } from "node:http";
import { Type } from "typebox";
import { deviceService, type DeviceServiceApi } from "../../devices/sdk/api.ts";
import { connect } from "../../kernel/connect.ts";
import { field, defineService } from "../../kernel/service.ts";
import { JSON_TYPE } from "../../kernel/wire.ts";
import { bus } from "../bus/api.ts";
import { coreMetadata } from "../core-metadata/api.ts";
import { coreCommand } from "./api.ts";
import { cacheMetadata } from "./metadata.ts";
import { makeCoreCommand } from "./service.ts";

/** Connections kept to each device service of others (`--open-edgex`). */
const FOREIGN_SOCKETS_MAX = 8;

export const main = defineService({
  contract: coreCommand,
  config: Type.Object(
    {
      publicUrl: field(Type.String({ maxLength: 2048 }), {
        description: "Put before the path of every command that is listed: where people reach core-command.",
        default: "/core-command",
        example: "https://box17.example:8443/core-command",
      }),
    },
    { additionalProperties: false },
  ),
  needs: ["bus", "core-metadata", "device-*"],
  stateful: false,
  async start(context) {
    const { clock, log, stopping } = context;
    const metadata = cacheMetadata(context.connect(coreMetadata));
    const following = metadata.follow({ bus: context.connect(bus), clock, log, signal: stopping });
    const own = new Map<string, DeviceServiceApi>();
    const foreign = new Map<string, DeviceServiceApi>();
    const remember = (map: Map<string, DeviceServiceApi>, key: string, make: () => DeviceServiceApi) =>
      map.get(key) ?? map.set(key, make()).get(key)!;
    return {
      service: makeCoreCommand({
        metadata,
        publicUrl: context.config.publicUrl,
        async deviceService(name, call) {
          const address = new URL((await metadata.service(name, call)).baseAddress);
          // Our own device services are found by the registry; EdgeX's, which speak plain HTTP, where they said they are.
          if (address.protocol !== "http:") return remember(own, name, () => context.connect(deviceService(name)));
          return remember(foreign, address.origin, () => connectForeign(name, address));
        },
      }),
      async stop() {
        await following;
      },
    };
  },
});

function connectForeign(name: string, address: URL): DeviceServiceApi {
  const agent = new Agent({ keepAlive: true, maxSockets: FOREIGN_SOCKETS_MAX });
  const target = { host: address.hostname, port: Number(address.port || 80), agent, secure: false };
  return connect(deviceService(name), {
    resolver: { pick: () => target, failed: () => undefined },
    encoding: JSON_TYPE,
  });
}
