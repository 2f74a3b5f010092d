/** The connection to a cloud: mutual TLS with the node's certificate, its bytes counted on the wire. */
import { Agent } from "node:https";
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import type { Clock } from "../../kernel/clock.ts";
import { connect, type Target } from "../../kernel/connect.ts";
import type { Service } from "../../kernel/contract.ts";
import { TlsIdentity } from "../../kernel/identity/tls.ts";
import { cloud } from "../cloud/api.ts";
import type { Enrollment } from "./store.ts";

export type CloudClient = Service<typeof cloud>;

/** Counts what goes over the sockets themselves: TLS, headers and all. */
class Meter {
  readonly #open = new Set<Socket>();
  #sent = 0;
  #received = 0;

  add(socket: Socket): void {
    this.#open.add(socket);
    socket.once("close", () => {
      this.#open.delete(socket);
      this.#sent += socket.bytesWritten;
      this.#received += socket.bytesRead;
    });
  }

  get bytes(): { sent: number; received: number } {
    let { sent, received } = { sent: this.#sent, received: this.#received };
    for (const socket of this.#open) {
      sent += socket.bytesWritten;
      received += socket.bytesRead;
    }
    return { sent, received };
  }
}

class MeteredAgent extends Agent {
  readonly #settings: () => ConnectionOptions;
  readonly #meter: Meter;

  constructor(settings: () => ConnectionOptions, meter: Meter) {
    super({ keepAlive: true, maxSockets: 4, maxCachedSessions: 0, timeout: 50_000 });
    this.#settings = settings;
    this.#meter = meter;
  }

  override createConnection(options: ConnectionOptions) {
    // A socket of its own below TLS: only there every byte of the wire is seen.
    const tcp = connectTcp({ host: options.host ?? "localhost", port: Number(options.port), noDelay: true, keepAlive: true });
    this.#meter.add(tcp);
    const tls = connectTls({ ...options, ...this.#settings(), socket: tcp });
    tcp.once("error", (error) => tls.destroy(error));
    return tls;
  }
}

export interface Link {
  readonly client: CloudClient;
  readonly bytes: { readonly sent: number; readonly received: number };
  renew(certPem: string, keyPem: string): void;
  close(): void;
}

/** Opens the link of an enrollment; nothing is sent before the first call. */
export function openLink({ caPem, certPem, cloud: node, edge, keyPem, url }: Enrollment, clock: Clock): Link {
  const identity = new TlsIdentity({ node, service: `edge.${edge}`, caPem, clock });
  identity.update({ certPem, keyPem });
  const meter = new Meter();
  const agent = new MeteredAgent(() => identity.clientOptions({ node, service: "cloud" }), meter);
  const at = new URL(url);
  const target: Target = { host: at.hostname.replace(/^\[|\]$/g, ""), port: Number(at.port || 443), agent, secure: true };
  return {
    client: connect(cloud, { resolver: { pick: () => target, failed: () => undefined } }),
    get bytes() {
      return meter.bytes;
    },
    renew: (newCert, newKey) => identity.update({ certPem: newCert, keyPem: newKey }),
    close() {
      agent.destroy();
      identity.close();
    },
  };
}
