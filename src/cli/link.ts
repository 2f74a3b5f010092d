/** The way from a command to the node's services: through the gateway over TLS, like everybody, with a token that ends soon. */
import { Agent } from "node:https";
import { type Call, makeCall } from "../kernel/call.ts";
import { connect, type Target } from "../kernel/connect.ts";
import type { Contract, Service } from "../kernel/contract.ts";
import { fail, UNAVAILABLE } from "../kernel/error.ts";
import type { Node } from "../node/api.ts";
import type { Role } from "../services/identity/api.ts";
import { localNode } from "./local-node.ts";

export interface Link {
  /** The supervisor, on its own socket. */
  readonly node: Node;
  /** The client of a service behind the gateway. */
  readonly service: <C extends Contract>(contract: C) => Service<C>;
  readonly call: (timeoutMs?: number) => Call;
}

const TOKEN_LIFETIME_S = 300;
/** A new token is asked for when so much of the old one is left. */
const TOKEN_LEFT_MS = 60_000;
const CALL_TIMEOUT_MS = 15_000;
const NODE_TIMEOUT_MS = 5_000;
const SOCKETS_MAX = 8;

export interface LinkOptions {
  readonly state?: string | undefined;
  /** What the command needs, and no more. */
  readonly role: Role;
}

/** Opens the link, does the work, closes the link. NODE_NOT_RUNNING, UNAVAILABLE where no gateway runs. */
export async function withLink<T>(options: LinkOptions, work: (link: Link) => Promise<T>): Promise<T> {
  const local = localNode(options.state);
  const door = new Door(() =>
    local.client.token(
      { body: { subject: "cli", role: options.role, lifetimeS: TOKEN_LIFETIME_S } },
      local.call(NODE_TIMEOUT_MS),
    ),
  );
  try {
    return await work({
      node: local.client,
      service: (contract) =>
        connect(contract, {
          resolver: { pick: () => door.open(), failed: () => undefined },
          basePath: `/${contract.name}`,
          headers: () => ({ authorization: `Bearer ${door.token}` }),
        }),
      call: (timeoutMs = CALL_TIMEOUT_MS) => makeCall({ caller: "cli", timeoutMs }),
    });
  } finally {
    door.close();
    local.close();
  }
}

interface Issued {
  readonly token: string;
  readonly gatewayUrl: string;
  readonly caPem: string;
}

/** The gateway's door, with a token that is good now. */
class Door {
  readonly #issue: () => Promise<Issued>;
  #opened: Promise<Target> | undefined;
  #agent: Agent | undefined;
  #untilMs = 0;
  token = "";

  constructor(issue: () => Promise<Issued>) {
    this.#issue = issue;
  }

  /** Answers where the gateway is; asks the node for a token at first, and again before that ends. */
  open(): Promise<Target> {
    if (!this.#opened || performance.now() > this.#untilMs) {
      this.#untilMs = performance.now() + TOKEN_LIFETIME_S * 1_000 - TOKEN_LEFT_MS;
      this.#opened = this.#ask();
      // Whoever asks next tries again.
      this.#opened.catch(() => (this.#opened = undefined));
    }
    return this.#opened;
  }

  close(): void {
    this.#agent?.destroy();
  }

  async #ask(): Promise<Target> {
    const { token, gatewayUrl, caPem } = await this.#issue();
    if (gatewayUrl === "")
      throw fail(UNAVAILABLE, "the node runs without a gateway (--only): its services cannot be asked");
    const url = new URL(gatewayUrl);
    this.token = token;
    this.#agent ??= new Agent({ ca: caPem, keepAlive: true, minVersion: "TLSv1.3", maxSockets: SOCKETS_MAX });
    return {
      host: url.hostname.replace(/^\[|\]$/g, ""),
      port: Number(url.port || 443),
      agent: this.#agent,
      secure: true,
    };
  }
}
