/** The step that starts a request's clock: from its last byte until the head of its answer, as long as the route has. */
import type { Clock } from "../../../kernel/clock.ts";
import { DEADLINE, fail } from "../../../kernel/error.ts";
import { Ticket } from "../ticket.ts";
import { gone, type Step } from "../visit.ts";

/** Makes the step; what runs out of time ends with DEADLINE, what nobody waits for any more with GATEWAY_CLIENT_GONE. */
export const timed =
  ({ timeoutMs, clock }: { timeoutMs: number; clock: Clock }): Step =>
  (next) =>
  (visit) => {
    const late = () => fail(DEADLINE, `${visit.service} did not answer ${visit.operation} within ${timeoutMs} ms`);
    visit.ticket = new Ticket({ timeoutMs, clock, late });
    // The client may have gone while its body was read or its token verified.
    if (visit.exchange.gone && !visit.detached) visit.ticket.end(gone());
    return next(visit);
  };
