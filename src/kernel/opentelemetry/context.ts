/**
 * OpenTelemetry's contexts over the node's own: within a request its step is the active span, so that what a library begins
 * is part of the request's story, and what `with` makes active is whose child the next call is.
 */
import type { Context, ContextManager } from "@opentelemetry/api";
import { asUuid } from "../call.ts";
import { type Work, within, workHere } from "../during.ts";
import { isSound, SpanHandle } from "./span.ts";

/** As @opentelemetry/api has it: trace.getSpan(context). */
const SPAN_KEY = Symbol.for("OpenTelemetry Context Key SPAN");

class Values implements Context {
  readonly #values: ReadonlyMap<symbol, unknown>;

  constructor(values: ReadonlyMap<symbol, unknown>) {
    this.#values = values;
  }

  getValue(key: symbol): unknown {
    return this.#values.get(key);
  }

  setValue(key: symbol, value: unknown): Context {
    return new Values(new Map(this.#values).set(key, value));
  }

  deleteValue(key: symbol): Context {
    const values = new Map(this.#values);
    values.delete(key);
    return new Values(values);
  }
}

const ROOT = new Values(new Map());
/** The context of a piece of work: that which `with` made active, or one of the request's own step. */
const contexts = new WeakMap<Work, Context>();

/** Makes the context in which a span is the active one. */
export const withSpan = (context: Context, span: object): Context => context.setValue(SPAN_KEY, span);

/** Finds the ids of a context's active span; undefined where there is none. */
export function spanContextIn(context: Context) {
  const told = (context.getValue(SPAN_KEY) as SpanHandle | undefined)?.spanContext();
  return told !== undefined && isSound(told) ? told : undefined;
}

class Contexts implements ContextManager {
  active(): Context {
    const work = workHere();
    if (!work) return ROOT;
    let context = contexts.get(work);
    if (!context) {
      const { requestId, spanId } = work;
      const isOfRequest = requestId !== undefined && spanId !== undefined;
      context = isOfRequest ? withSpan(ROOT, new SpanHandle({ requestId, spanId })) : ROOT;
      contexts.set(work, context);
    }
    return context;
  }

  with<A extends unknown[], F extends (...args: A) => ReturnType<F>>(
    context: Context,
    fn: F,
    thisArg?: ThisParameterType<F>,
    ...args: A
  ): ReturnType<F> {
    const span = spanContextIn(context);
    const step = span ? { requestId: asUuid(span.traceId), spanId: span.spanId } : {};
    return within(step, (work) => {
      contexts.set(work, context);
      return fn.apply(thisArg as ThisParameterType<F>, args);
    });
  }

  /** Binds functions; an emitter is given back as it is, its listeners keep the context in which they were added. */
  bind<T>(context: Context, target: T): T {
    if (typeof target !== "function") return target;
    const contextual = this.with.bind(this) as (...of: unknown[]) => unknown;
    const bound = function (this: unknown, ...args: unknown[]): unknown {
      return contextual(context, target, this, ...args);
    };
    return bound as T;
  }

  enable(): this {
    return this;
  }

  disable(): this {
    return this;
  }
}

export const contextManager = new Contexts();
