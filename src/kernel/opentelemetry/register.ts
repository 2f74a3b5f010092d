/**
 * Honours @opentelemetry/api, whichever copy of it a service or its libraries bring: each looks for its implementation under
 * one symbol of the process (its global-utils). A copy takes one that calls itself of its own minor version or a later one;
 * the calls that are answered here have been the same since 1.0.
 */
import type { TObject } from "typebox";
import type { Contract } from "../contract.ts";
import { workIn } from "../during.ts";
import type { ServiceMain } from "../service.ts";
import { contextManager } from "./context.ts";
import { propagator, tracerProvider } from "./provider.ts";

const PLACE = Symbol.for("opentelemetry.js.api.1");
const VERSION = "1.99.0";

/** Puts the node's own where nobody's is. */
export function honourOpenTelemetry(): void {
  const all = globalThis as { [PLACE]?: Record<string, unknown> };
  all[PLACE] ??= { version: VERSION, trace: tracerProvider, context: contextManager, propagation: propagator };
}

/** Makes what a service does of its own accord, from its start on, tell its spans as that service's. */
export const observed = <C extends Contract, S extends TObject>(main: ServiceMain<C, S>): ServiceMain<C, S> => ({
  ...main,
  start: (context) => workIn(context.tracer, () => main.start(context)),
});
