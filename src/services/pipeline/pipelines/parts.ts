/** What every pipeline of the node is given. */
import type { Clock } from "../../../kernel/clock.ts";
import type { Log } from "../../../kernel/log.ts";
import type { Tracer } from "../../../kernel/trace.ts";
import type { Bus } from "../../bus/api.ts";
import type { Outbox } from "../outbox/outbox.ts";
import type { Decoded } from "./decoded.ts";
import type { Departures } from "./departures.ts";
import type { PipelineTables } from "./tables.ts";

export interface Parts {
  readonly bus: Bus;
  readonly outbox: Pick<Outbox, "add" | "followed" | "isUnsure">;
  readonly tables: PipelineTables;
  readonly departures: Departures;
  readonly decoded: Decoded;
  readonly pseudonymKey: Uint8Array;
  readonly clock: Clock;
  readonly log: Log;
  readonly tracer: Tracer;
}
