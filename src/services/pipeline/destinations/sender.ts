/** What sends batches to a destination, whatever the destination is: the uplink knows no more of it than this. */
import type { QueueClass } from "../pacing/priority.ts";

/** A batch as the outbox holds it: columns, whatever the destination wants. */
export interface BatchToSend {
  /** Its position in the journal of its class. */
  readonly sequence: number;
  readonly queuedNs: bigint;
  readonly blocks: Uint8Array;
}

/** What is sent in one order: a class of priorities, in one count of sequences. */
export interface Lane {
  readonly class: QueueClass;
  readonly epoch: number;
  /** `backlog`: what waited while the destination was away. */
  readonly kind: "live" | "backlog";
}

/** A batch that the destination will never take. */
export interface Refusal {
  readonly sequence: number;
  readonly reason: string;
}

/** How far it went: all up to `durable` need not be sent again, those refused among them. */
export interface Sent {
  readonly durable: number;
  readonly refused: readonly Refusal[];
}

/** Where a destination that keeps the mark itself stands. */
export interface SenderMark extends Sent {
  /** Position of the bus of the last batch that it has. */
  readonly through?: number | undefined;
}

export interface Bytes {
  readonly sent: number;
  readonly received: number;
}

export interface Sender {
  /** Counted on the sockets, TLS included. */
  readonly bytes: Bytes;
  /** Asks how far the destination is, where it keeps that itself; the others' marks are kept here. */
  mark?(lane: Lane, signal: AbortSignal): Promise<SenderMark>;
  /**
   * Sends batches in order. Resolves when at least one is durable or refused; what was sent before a failure is told, not
   * lost. Rejects where none was: UNAVAILABLE (with `retryAfterS` where the destination said so), PIPELINE_PORT_FORBIDDEN.
   */
  send(lane: Lane, batches: readonly BatchToSend[], signal: AbortSignal): Promise<Sent>;
  close(): void | Promise<void>;
}
