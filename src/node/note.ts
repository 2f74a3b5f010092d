/** What the supervisor notes for the audit trail: starts and ends of processes, and what is done over the operator's socket. */
import { Auditor } from "../kernel/audit.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Log } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics/metrics.ts";
import { Tracer } from "../kernel/trace.ts";
import { trace } from "../services/trace/api.ts";
import { SELF, type Self } from "./self.ts";
import { ship } from "./shipping.ts";
import type { UnitState } from "./unit.ts";

export interface NotesOptions {
  readonly clock: Clock;
  readonly log: Log;
}

export class Notes {
  readonly audit: Auditor;
  readonly #o: NotesOptions;
  /** Whoever is up: told once for each life. */
  readonly #up = new Set<string>();
  #stopShipping: (() => Promise<void>) | undefined;

  constructor(options: NotesOptions) {
    this.#o = options;
    this.audit = new Auditor(options.clock);
  }

  /** Notes that the node starts; ships to its trace service from now on, where it has one. */
  begin(what: string, self: Self | undefined): void {
    const { clock, log } = this.#o;
    this.audit.note({ action: "node.start", outcome: "done", who: SELF, what });
    if (!self) return;
    this.#stopShipping = ship({
      part: { name: SELF, instance: self.instance },
      tracer: new Tracer(SELF, clock),
      audit: this.audit,
      metrics: new Metrics(),
      trace: self.connect(trace),
      log,
    });
  }

  /** Notes that a service has come up, or that it ended by itself. */
  changed(service: string, state: UnitState, reason: string | undefined): void {
    const isUp = state === "passing";
    const isGone = state === "restarting" || state === "critical";
    if (isGone) this.#o.log.info({ of: service, state }, `${service} is started again: ${reason ?? ""}`);
    if (isUp ? this.#up.has(service) : !isGone || !this.#up.has(service)) return;
    if (isUp) this.#up.add(service);
    else this.#up.delete(service);
    const action = isUp ? "service.start" : "service.end";
    this.audit.note({ action, outcome: "done", who: SELF, what: service, ...(isUp ? {} : { note: reason }) });
  }

  /** Notes what a person asked for that is a stream, of which no answer tells. */
  asked(action: "service.restart", what: string): void {
    this.audit.note({ action, outcome: "done", who: "cli", what });
  }

  /** Notes that the node stops, and ships what is left. */
  async end(): Promise<void> {
    this.audit.note({ action: "node.stop", outcome: "done", who: SELF, what: "all services" });
    await this.#stopShipping?.();
  }
}
