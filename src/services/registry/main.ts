/** The registry's config and wiring. */
import { join } from "node:path";
import { Type } from "typebox";
import { healthAfterDamage } from "../../kernel/database-errors.ts";
import { nextEpoch } from "../../kernel/epoch.ts";
import { defineService, field } from "../../kernel/service.ts";
import { bus } from "../bus/api.ts";
import { Announcer } from "./announcer.ts";
import { registry } from "./api.ts";
import { DnsServer } from "./dns/server.ts";
import { FleetConfig } from "./fleet/config.ts";
import { probe } from "./probe.ts";
import { makeRegistry } from "./service.ts";
import { openRegistryStore } from "./store.ts";

const TICKS_PER_TTL = 12;
/** Often enough for the registry to notice by its ticks that it was held up itself. */
const TICK_MS_MAX = 250;
/** Revisions of one start: epochs are seconds, and no registry sees two million changes in each of them. */
const REVISIONS_PER_EPOCH = 2 ** 21;

export const main = defineService({
  contract: registry,
  config: Type.Object(
    {
      ttlMs: field(Type.Integer({ minimum: 200, maximum: 600_000 }), {
        description:
          "A hung instance is dropped when it has not renewed its lease for so many milliseconds. (A dead one is dropped at once.)",
        default: 3_000,
        example: 10_000,
      }),
      renewMs: field(Type.Integer({ minimum: 50, maximum: 200_000 }), {
        description: "How often instances renew their lease, in milliseconds; a third of ttlMs is good.",
        default: 1_000,
        example: 3_000,
      }),
      preserveMs: field(Type.Integer({ minimum: 0, maximum: 3_600_000 }), {
        description:
          "When most instances are lost at once, the registry doubts what it sees and keeps them as 'unverified' for so many milliseconds, behind all others; 0 drops them at once.",
        default: 15_000,
        example: 60_000,
      }),
      dnsZone: field(Type.String({ pattern: "^[a-z0-9.-]{1,100}$" }), {
        description: "The zone that the door 'dns' answers for: core-data is core-data.<dnsZone>.",
        default: "holdfast.internal",
        example: "pump-house.internal",
      }),
      fleet: field(FleetConfig, {
        description: "The nodes that see each other's instances, beyond this machine (docs/registry.md).",
        default: {},
        example: { engine: "etcd", urls: ["https://10.0.0.11:2379"] },
      }),
    },
    { additionalProperties: false },
  ),
  // The bus: for the messages of changed keys. Device services: those of others are asked whether they are well.
  needs: ["bus", "device-*"],
  stateful: true,
  doors: [{ name: "dns", port: 8_653, when: "configured", protocol: "both" }],
  async start(context) {
    const { config, clock, log, stopping } = context;
    if (config.renewMs * 2 > config.ttlMs)
      throw new Error(`config.renewMs (${config.renewMs}) must be at most half of config.ttlMs (${config.ttlMs})`);
    const path = join(context.directory, "registry.db");
    const store = openRegistryStore({ path, key: context.keys("database").all(), log });
    const announcer = new Announcer({ bus: context.connect(bus), log, signal: stopping });
    const running = makeRegistry({
      ...config,
      clock,
      log,
      store,
      revision: nextEpoch(context.directory, clock) * REVISIONS_PER_EPOCH,
      announce: (pair, call) => announcer.tell(pair, call),
      probe,
    });
    const ticking = setInterval(() => running.tick(), Math.min(TICK_MS_MAX, Math.ceil(config.ttlMs / TICKS_PER_TTL)));
    stopping.addEventListener("abort", () => clearInterval(ticking), { once: true });
    const { roster, service } = running;
    context.metrics.read("gauge", "holdfast_registry_instances", "Instances that are registered, by state.", () => {
      const states = Map.groupBy(roster.audience.instances(), ({ state }) => state);
      return [...states].map(([state, { length }]) => [{ state }, length]);
    });
    // Loaded only where there is one.
    const engine = config.fleet.engine === "none" ? undefined : await import("./fleet/engine.ts");
    const authorities = context.identity?.authorities ?? [];
    const fleet = await engine?.joinFleet({ ...context, config: config.fleet, authorities, roster, signal: stopping });
    const dns = new DnsServer({ zone: config.dnsZone, listed: (name) => roster.list(name), log });
    const { dns: tcp, "dns-udp": udp } = context.doors;
    if (tcp && udp) log.info({ zone: config.dnsZone, ...(await dns.listen({ tcp, udp })) }, "DNS is answered");
    return {
      service,
      health: () =>
        fleet?.trouble === undefined
          ? healthAfterDamage(store.replaced, "EdgeX's services are to be registered and configured again")
          : { state: "warning" as const, reason: fleet.trouble },
      async stop() {
        await Promise.all([dns.close(), fleet?.over]);
        store.close();
      },
    };
  },
});
