/** Which request is being worked on: what is logged meanwhile carries its id, whoever says it. */
import { AsyncLocalStorage } from "node:async_hooks";

interface Work {
  readonly requestId: string;
  over: boolean;
}
const works = new AsyncLocalStorage<Work>();

/** Does the work of a request; what it leaves behind (a timer, a connection) is no part of it once it has ended. */
export async function during<T>(requestId: string, work: () => Promise<T>): Promise<T> {
  const own: Work = { requestId, over: false };
  try {
    return await works.run(own, work);
  } finally {
    own.over = true;
  }
}

/** Finds the request that is being worked on here; undefined where there is none. */
export function requestHere(): string | undefined {
  const work = works.getStore();
  return work === undefined || work.over ? undefined : work.requestId;
}
