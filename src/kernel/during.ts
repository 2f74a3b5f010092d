/** Which request is being worked on, and by whom: what is logged meanwhile carries its id, whoever says it. */
import { AsyncLocalStorage } from "node:async_hooks";
import type { Call } from "./call.ts";
import type { Tracer } from "./trace.ts";

type Step = Pick<Call, "requestId" | "spanId">;

/** A piece of work, or one within another. */
export interface Work extends Partial<Step> {
  /** Of the service that does it. */
  readonly tracer: Tracer | undefined;
  /** The work that this is within; itself where there is none. */
  readonly whole: Work & { readonly over: boolean };
}

class Whole implements Work {
  readonly requestId: string | undefined;
  readonly spanId: string | undefined;
  readonly tracer: Tracer | undefined;
  over = false;

  constructor(step: Partial<Step>, tracer: Tracer | undefined) {
    this.requestId = step.requestId;
    this.spanId = step.spanId;
    this.tracer = tracer;
  }

  get whole(): this {
    return this;
  }
}

const works = new AsyncLocalStorage<Work>();

/** Does the work of a request; what it leaves behind (a timer, a connection) is no part of it once it has ended. */
export async function during<T>(step: Step, tracer: Tracer | undefined, work: () => Promise<T>): Promise<T> {
  const own = new Whole(step, tracer);
  try {
    return await works.run(own, work);
  } finally {
    own.over = true;
  }
}

/** Does what a service does of its own accord, for no request. */
export const workIn = <T>(tracer: Tracer, work: () => T): T => works.run(new Whole({}, tracer), work);

/** Does a step within the work that is being done here. */
export function within<T>(step: Partial<Step>, work: (here: Work) => T): T {
  const around = works.getStore();
  const own = { ...step, tracer: around?.tracer, whole: around?.whole ?? new Whole({}, undefined) };
  return works.run(own, () => work(own));
}

/** Finds the work that is being done here, also what a request has left behind. */
export const workHere = (): Work | undefined => works.getStore();

/** Finds the request that is being worked on here; undefined where there is none. */
export function requestHere(): string | undefined {
  const work = works.getStore();
  return work === undefined || work.whole.over ? undefined : work.requestId;
}

/** Finds whose child a call is that is made here: the step within the call's own, where there is one. */
export function callerOf(call: Step): Step {
  const work = works.getStore();
  const isWithin = work !== undefined && work !== work.whole && work.requestId === call.requestId;
  return isWithin && work.spanId !== undefined ? { requestId: call.requestId, spanId: work.spanId } : call;
}
