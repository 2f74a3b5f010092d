/** Clients of device services: our own are found by the registry, EdgeX's, which speak plain HTTP, where they said they are. */
import { Agent } from "node:http";
import type { DeviceServiceApi } from "../../devices/sdk/api.ts";
import type { Resolver } from "../../kernel/connect.ts";
import type { DeviceService } from "../../kernel/edgex.ts";
import { fail, UNAVAILABLE } from "../../kernel/error.ts";

/** Connections kept to each device service of others. */
const FOREIGN_SOCKETS_MAX = 8;
/** Addresses of others that are remembered; at the limit the first goes. */
const FOREIGN_MAX = 256;

interface Foreign {
  readonly client: DeviceServiceApi;
  readonly agent: Agent;
}

/** How clients are made. */
export interface Connects {
  own(this: void, name: string): DeviceServiceApi;
  foreign(this: void, name: string, resolver: Resolver): DeviceServiceApi;
}

export class Clients {
  readonly #connects: Connects;
  readonly #own = new Map<string, DeviceServiceApi>();
  readonly #foreign = new Map<string, Foreign>();

  constructor(connects: Connects) {
    this.#connects = connects;
  }

  /** UNAVAILABLE where the service's address is none. */
  of({ name, baseAddress }: DeviceService): DeviceServiceApi {
    const address = URL.parse(baseAddress);
    if (!address || !/^https?:$/.test(address.protocol))
      throw fail(
        UNAVAILABLE,
        `device service '${name}' has the address '${baseAddress.slice(0, 100)}', which is no URL`,
      );
    if (address.protocol === "http:") return this.#foreignAt(name, address);
    const known = this.#own.get(name) ?? this.#connects.own(name);
    this.#own.set(name, known);
    return known;
  }

  close(): void {
    for (const { agent } of this.#foreign.values()) agent.destroy();
  }

  #foreignAt(name: string, address: URL): DeviceServiceApi {
    const known = this.#foreign.get(address.origin);
    if (known) return known.client;
    const agent = new Agent({ keepAlive: true, maxSockets: FOREIGN_SOCKETS_MAX });
    const target = { host: address.hostname, port: Number(address.port || 80), agent, secure: false };
    const client = this.#connects.foreign(name, { pick: () => target, failed: () => undefined });
    this.#foreign.set(address.origin, { client, agent });
    for (const [origin, old] of this.#foreign) {
      if (this.#foreign.size <= FOREIGN_MAX) break;
      old.agent.destroy();
      this.#foreign.delete(origin);
    }
    return client;
  }
}
