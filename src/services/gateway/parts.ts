/** What the steps of the gateway's routes stand on. */
import type { Clock } from "../../kernel/clock.ts";
import type { Log } from "../../kernel/log.ts";
import type { Bus } from "../bus/api.ts";
import type { Access } from "./access/access.ts";
import type { Store } from "./cache/store.ts";
import type { Metrics } from "./metrics.ts";
import type { TakeInOptions } from "./shape/body.ts";
import type { Limiter } from "./shape/limiter.ts";
import type { Limits } from "./shape/limits.ts";
import type { Shedder } from "./shape/shedder.ts";
import type { Balancer } from "./upstream/balancer.ts";
import type { Checks } from "./upstream/checks.ts";
import type { Connections } from "./upstream/connections.ts";
import type { Upstream } from "./upstream/upstream.ts";

export interface Parts {
  readonly clock: Clock;
  readonly log: Log;
  readonly bus: Bus;
  readonly access: Access;
  readonly limits: Limits;
  readonly byToken: Limiter;
  /** Of the door, this one among them. */
  readonly processes: () => number;
  readonly bodies: TakeInOptions;
  readonly shedder: Shedder;
  /** The gateway's own. */
  readonly directory: string;
  readonly balancer: Balancer;
  readonly store: Store;
  readonly checks: Checks;
  readonly upstream: Upstream;
  readonly connections: Connections;
  readonly metrics: Metrics;
}
