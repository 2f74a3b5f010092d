/** OpenTelemetry's tracers: their spans go where the service that is at work here tells its own steps. */
import type { Context, Span, SpanOptions, TextMapPropagator, TracerProvider } from "@opentelemetry/api";
import { asUuid, newRequestId, newSpanId, readTraceparent, traceparent } from "../call.ts";
import { workHere } from "../during.ts";
import { contextManager, spanContextIn, withSpan } from "./context.ts";
import { KitSpan, SpanHandle } from "./span.ts";

type Work = (span: Span) => unknown;

const tracer = {
  startSpan(name: string, options: SpanOptions = {}, context: Context = contextManager.active()): Span {
    const parent = options.root ? undefined : spanContextIn(context);
    const span = new KitSpan({
      name,
      requestId: parent ? asUuid(parent.traceId) : newRequestId(),
      spanId: newSpanId(),
      parentId: parent?.spanId,
      tracer: workHere()?.tracer,
      startTime: options.startTime,
    });
    return span.setAttributes(options.attributes ?? {}).addLinks(options.links ?? []);
  },

  /** The function is the last of two to four arguments. */
  startActiveSpan(name: string, ...of: readonly unknown[]): unknown {
    const work = of.at(-1) as Work;
    const [options, context] = of.slice(0, -1) as [SpanOptions?, Context?];
    const around = context ?? contextManager.active();
    const span = this.startSpan(name, options, around);
    return contextManager.with(withSpan(around, span), () => work(span));
  },
};

export const tracerProvider: TracerProvider = { getTracer: () => tracer };

/** W3C trace context; baggage is not carried. */
export const propagator: TextMapPropagator = {
  inject(context, carrier, setter) {
    const span = spanContextIn(context);
    if (span) setter.set(carrier, "traceparent", traceparent({ requestId: asUuid(span.traceId), spanId: span.spanId }));
  },
  extract(context, carrier, getter) {
    const [text] = [getter.get(carrier, "traceparent")].flat();
    const found = readTraceparent(text);
    return found
      ? withSpan(context, new SpanHandle({ requestId: found.requestId, spanId: found.parentId }, true))
      : context;
  },
  fields: () => ["traceparent"],
};
