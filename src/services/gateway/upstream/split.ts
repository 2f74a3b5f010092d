/** Handlers that have a choice: one of several targets by weight, and a copy for a shadow. */
import { drop, type Handler, type Step, type Visit } from "../visit.ts";

/** Makes the handler that hands on to one of several, each as often as its weight says. */
export function split(targets: readonly { readonly weight: number; readonly handle: Handler }[]): Handler {
  const some = targets.filter(({ weight }) => weight > 0);
  if (some.length === 1) return some[0].handle;
  const sum = some.reduce((total, { weight }) => total + weight, 0);
  return (visit) => {
    let at = Math.random() * sum;
    for (const { weight, handle } of some) {
      at -= weight;
      if (at < 0) return handle(visit);
    }
    return some[0].handle(visit);
  };
}

/** Copies that are under way at once, of one route; further requests have none. */
const COPIES_MAX = 64;

/** Makes the step that sends a copy of a share of the requests to a handler whose answers nobody sees. */
export function shadowed(share: number, shadow: Handler): Step {
  let running = 0;
  const copy = async (visit: Visit) => {
    running++;
    try {
      drop(await shadow(visit));
    } catch {
      // Nobody asked for its answer: the metrics of its upstream tell.
    } finally {
      running--;
    }
  };
  return (next) => (visit) => {
    if (running < COPIES_MAX && Math.random() < share) void copy(visit.copy());
    return next(visit);
  };
}
