/** Gives a service's answer to the client as fast as it takes it: what is slow outside costs the service no time. */
import { Failure, fail } from "../../kernel/error.ts";
import type { Answer } from "./upstream/answer.ts";
import { GATEWAY_UPSTREAM_FAILED } from "./api.ts";
import type { Exchange } from "./front/exchange.ts";
import { endsBehind } from "./headers.ts";
import type { Ticket } from "./ticket.ts";
import type { Visit } from "./visit.ts";

const CONTINUE = 100;

export interface DeliveryOptions {
  /** Its head is written. */
  readonly exchange: Exchange;
  readonly ticket: Ticket | undefined;
  readonly sent: (bytes: number) => void;
  readonly broken: (failure: Failure) => void;
}

/** Gives on what comes before an answer (RFC 9110 15.2); 100 was ours to say. */
export function giveInterim({ exchange, detached }: Visit, status: number, headers: readonly string[]): void {
  if (detached || status === CONTINUE) return;
  const passed: string[] = [];
  for (let i = 0; i < headers.length; i += 2)
    if (!endsBehind(headers[i].toLowerCase())) passed.push(headers[i], headers[i + 1]);
  exchange.inform(status, passed);
}

/** Says that a service's answer ended before its end. */
export const brokenOff = (error: Error): Failure =>
  error instanceof Failure ? error : fail(GATEWAY_UPSTREAM_FAILED, "the service's answer broke off", { cause: error });

/** Gives the body as it comes. The route's time does not count while the client is waited for. */
export function deliver(answer: Answer, options: DeliveryOptions): void {
  const { exchange, sent, broken } = options;
  const { whole } = answer;
  if (whole) {
    sent(whole.length);
    return exchange.end(whole);
  }
  answer.read({
    data(chunk) {
      sent(chunk.length);
      if (exchange.write(chunk)) return true;
      waitForClient(answer, options);
      return false;
    },
    end: () => exchange.end(),
    broken: (error) => broken(brokenOff(error)),
  });
  exchange.flush();
}

/** Who takes nothing is cut off at the door, which looks at all that is given. */
function waitForClient(answer: Answer, { exchange, ticket }: DeliveryOptions): void {
  if (exchange.onDrain) return;
  const goOn = ticket?.hold();
  exchange.onDrain = () => {
    if (exchange.gone) return;
    goOn?.();
    answer.resume();
  };
}
