/** Wires core-command. */
import { Type } from "typebox";
import { deviceService } from "../../devices/sdk/api.ts";
import { connect } from "../../kernel/connect.ts";
import { watchCache } from "../../kernel/metrics/watched.ts";
import { field, defineService } from "../../kernel/service.ts";
import { JSON_TYPE } from "../../kernel/wire.ts";
import { bus } from "../bus/api.ts";
import { coreMetadata } from "../core-metadata/api.ts";
import { coreCommand } from "./api.ts";
import { Clients } from "./clients.ts";
import { cacheMetadata } from "./metadata.ts";
import { makeCoreCommand } from "./service.ts";

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
    for (const [name, cache] of Object.entries(metadata.caches)) watchCache(context.metrics, name, cache);
    const following = metadata.follow({ bus: context.connect(bus), clock, log, signal: stopping });
    const clients = new Clients({
      own: (name) => context.connect(deviceService(name)),
      foreign: (name, resolver) => connect(deviceService(name), { resolver, encoding: JSON_TYPE }),
    });
    return {
      service: makeCoreCommand({
        metadata,
        publicUrl: context.config.publicUrl,
        clientOf: (service) => clients.of(service),
      }),
      async stop() {
        await following;
        clients.close();
      },
    };
  },
});
