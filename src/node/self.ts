/** The supervisor as a caller of the node's services: with a certificate of its own, made when it first calls somebody. */
import { Agent } from "node:http";
import { makeCall } from "../kernel/call.ts";
import type { Clock } from "../kernel/clock.ts";
import { connect, type Resolver } from "../kernel/connect.ts";
import type { Contract, Service } from "../kernel/contract.ts";
import { fail, UNAVAILABLE } from "../kernel/error.ts";
import type { TlsIdentity } from "../kernel/identity/tls.ts";
import type { Trust } from "../kernel/identity/trust.ts";
import type { Log } from "../kernel/log.ts";
import type { Address } from "./hello.ts";
import { join } from "./join.ts";
import type { ServiceSockets } from "./sockets.ts";

/** The name that the supervisor's own certificate has. */
export const SELF = "node";
/** For Unix sockets. */
const plainAgent = new Agent({ keepAlive: true, maxSockets: 4 });

export interface SelfOptions {
  readonly node: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly sockets: ReadonlyMap<string, ServiceSockets>;
  readonly stopping: AbortSignal;
  caPem(): Promise<string>;
  newSecret(instance: string): string;
  /** Where the process that serves is, once there is one. */
  addressOf(service: string): Address | undefined;
}

export class Self {
  readonly instance = `${SELF}-${process.pid}`;
  readonly #o: SelfOptions;
  #identity: Promise<TlsIdentity> | undefined;

  constructor(options: SelfOptions) {
    this.#o = options;
  }

  /** Makes the client of a service, called as `node`; the operator's Unix socket where the service has one. */
  connect<C extends Contract>(contract: C): Service<C> {
    return connect(contract, { resolver: this.#resolver() });
  }

  call(timeoutMs: number) {
    return makeCall({ caller: SELF, timeoutMs, signal: this.#o.stopping });
  }

  trust(trust: Trust): void {
    void this.#identity?.then((identity) => identity.trust(trust));
  }

  async close(): Promise<void> {
    (await this.#identity?.catch(() => undefined))?.close();
  }

  #certificate(): Promise<TlsIdentity> {
    this.#identity ??= (async () => {
      const { node, clock, log, sockets, stopping } = this.#o;
      return join({
        node,
        service: SELF,
        instance: this.instance,
        caPem: await this.#o.caPem(),
        identity: sockets.get("identity")!.listen[0],
        newSecret: async () => this.#o.newSecret(this.instance),
        clock,
        log,
        signal: stopping,
      });
    })();
    return this.#identity;
  }

  /** The supervisor opened all sockets itself: it asks nobody where they are. */
  #resolver(): Resolver {
    return {
      pick: async (service) => {
        const at = this.#o.sockets.get(service);
        if (!at) throw fail(UNAVAILABLE, `${service} is not a service of this node`);
        if (at.control) return { host: "", port: 0, socketPath: at.control.path, agent: plainAgent, secure: false };
        const { host, port } = this.#o.addressOf(service) ?? at.listen[0];
        return { host, port, agent: (await this.#certificate()).agent(service), secure: true };
      },
      failed: () => undefined,
    };
  }
}
