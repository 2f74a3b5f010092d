/** Takes in a request's whole body before anything goes on: a service never waits for a slow client, and a retry has it again. */
import { fail, INPUT_TOO_LARGE } from "../../../kernel/error.ts";
import { GATEWAY_BUSY, GATEWAY_CLIENT_GONE, GATEWAY_ENCODING_REFUSED, GATEWAY_REQUEST_REFUSED } from "../api.ts";
import type { Incoming } from "../front/exchange.ts";
import type { Handler, Reply, Step, Visit } from "../visit.ts";

/** The memory that all bodies under way share; a request that finds no room is refused with GATEWAY_BUSY. */
export class Budget {
  #left: number;

  constructor(bytes: number) {
    this.#left = bytes;
  }

  take(bytes: number): void {
    if (bytes > this.#left)
      throw fail(GATEWAY_BUSY, "the bodies of other requests fill the gateway's memory", { retryAfterS: 1 });
    this.#left -= bytes;
  }

  give(bytes: number): void {
    this.#left += bytes;
  }
}

interface Taken {
  readonly body: Buffer | undefined;
  /** Gives the memory back; to be called once. */
  done(): void;
}

export interface TakeInOptions {
  readonly bytesMax: number;
  readonly budget: Budget;
}

/** Makes the step that takes in the body; INPUT_TOO_LARGE, GATEWAY_BUSY, GATEWAY_CLIENT_GONE where it breaks off. */
export const takeIn =
  (options: TakeInOptions): Step =>
  (next) =>
  (visit) =>
    visit.head!.hasBody ? withBody(options, next, visit) : next(visit);

/** Refuses a body where none can be meant. */
export const takeNone: Step = (next) => (visit) => {
  if (visit.head!.hasBody) throw bodiless(visit.method);
  return next(visit);
};

/** RFC 9110 15.5.16: the services of this node unpack nothing, so that nothing can be packed to burst them; GATEWAY_ENCODING_REFUSED. */
export const takePlain: Step = (next) => (visit) => {
  const encoding = visit.head!.hasBody ? visit.header("content-encoding")?.toLowerCase() : undefined;
  if (encoding === undefined || encoding === "identity") return next(visit);
  visit.extra.push("Accept-Encoding", "identity");
  throw fail(GATEWAY_ENCODING_REFUSED, "the body is packed (Content-Encoding), and services take it as it is");
};

/** RFC 9110 9.3.1, 9.3.2: it would mean nothing, and a server that does not look for it takes it for the next request. */
const BODYLESS: ReadonlySet<string> = new Set(["GET", "HEAD"]);
const bodiless = (method: string) => fail(GATEWAY_REQUEST_REFUSED, `${method} takes no body here`);

async function withBody(options: TakeInOptions, next: Handler, visit: Visit): Promise<Reply> {
  if (BODYLESS.has(visit.method)) throw bodiless(visit.method);
  const { length } = visit.head!;
  if (length !== undefined && length > options.bytesMax) throw tooLarge(options.bytesMax);
  if (visit.exchange.expects) visit.exchange.proceed();
  const taken = await takeBody(visit.exchange, options);
  visit.body = taken.body;
  try {
    return await next(visit);
  } finally {
    taken.done();
  }
}

/** Says that a body of this length is too large. */
const tooLarge = (bytesMax: number) => fail(INPUT_TOO_LARGE, `the body is larger than ${bytesMax} bytes`);

/** Reads a body of at most `bytesMax`; INPUT_TOO_LARGE, GATEWAY_BUSY, GATEWAY_CLIENT_GONE where it breaks off. */
function takeBody(exchange: Incoming, { bytesMax, budget }: TakeInOptions): Promise<Taken> {
  const chunks: Buffer[] = [];
  let size = 0;
  let refused = false;
  return new Promise((resolve, reject) => {
    const refuse = (error: Error) => {
      if (refused) return;
      refused = true;
      budget.give(size);
      reject(error);
    };
    exchange.read({
      data(chunk) {
        if (refused) return;
        try {
          if (size + chunk.length > bytesMax) throw tooLarge(bytesMax);
          budget.take(chunk.length);
        } catch (error) {
          return refuse(error as Error);
        }
        size += chunk.length;
        chunks.push(chunk);
      },
      end() {
        if (refused) return;
        const body = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks, size);
        resolve({ body: size === 0 ? undefined : body, done: () => budget.give(size) });
      },
      broken: () => refuse(fail(GATEWAY_CLIENT_GONE, "the request's body broke off")),
    });
  });
}
