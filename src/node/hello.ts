/** What passes between the supervisor and a service's process. Keys and secrets travel here and nowhere else. */
import type { Trust } from "../kernel/identity/trust.ts";
import type { ConfigValues } from "../kernel/config.ts";
import type { LogLevel } from "../kernel/log.ts";

/** The descriptor of the line in a service's process. */
export const LINE_FD = 3;

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** One service of a process. */
export interface Part {
  readonly name: string;
  readonly instance: string;
  readonly directory: string;
  /** The newest last; base64. */
  readonly dataKeys: readonly { readonly id: number; readonly key: string }[];
  /** For the first certificate; absent where the service makes its own. */
  readonly joinSecret?: string;
  readonly config: ConfigValues;
  readonly secrets: Readonly<Record<string, string>>;
  readonly listen: Address & { readonly fd: number };
  readonly doors: Readonly<Record<string, number>>;
  /** A Unix socket to serve the contract on for the operator. */
  readonly control?: number;
  /** A plain loopback socket to serve the contract on for unmodified EdgeX software. */
  readonly openEdgex?: { readonly fd: number; readonly port: number };
  /** Knows nothing of the node around it: no registry, no trace (the cloud). */
  readonly standalone: boolean;
}

/** The first message to a process. */
export interface Hello {
  readonly kind: "hello";
  readonly node: string;
  readonly version: string;
  /** The start of this machine. */
  readonly boot: string;
  readonly logLevel: LogLevel;
  readonly addresses: Readonly<Record<string, Address>>;
  /** One; with `--compact` all of the node's services. */
  readonly parts: readonly Part[];
  readonly compact: boolean;
  /** It takes the place of another: `waiting` for the word to begin, loaded and with its certificate, or `beside` it for a moment. */
  readonly successor?: "waiting" | "beside";
}

/** A message on a service's own line (Context.supervisor). */
export interface LineMessage {
  readonly kind: "line";
  readonly service: string;
  readonly name: string;
  readonly message: Readonly<Record<string, unknown>>;
}

/** Further messages to a process. */
export type ToChild =
  | Hello
  /** Whom to believe, as soon as identity is up, and again whenever that changes. */
  | ({ readonly kind: "authority" } & Trust)
  /** The answer to `need-join`. */
  | { readonly kind: `join ${string}`; readonly secret: string }
  | LineMessage
  /** The word for a standby to begin. */
  | { readonly kind: "go" }
  /** `handover`: somebody takes over, and whoever calls is to come to no harm. */
  | { readonly kind: "stop"; readonly handover: boolean };

export type FromChild =
  /** All code is loaded; what follows waits for others more than it computes. */
  | { readonly kind: "loaded" }
  /** A standby needs nothing more but the word to begin. */
  | { readonly kind: "standing" }
  | { readonly kind: "ready"; readonly service: string; readonly caPem?: string }
  | {
      readonly kind: "state";
      readonly service: string;
      readonly state: "passing" | "warning";
      readonly reason?: string;
    }
  | { readonly kind: "need-join"; readonly service: string }
  | LineMessage;
