/** Gives a service's answer to the client as fast as it takes it: what is slow outside costs the service no time. */
import type { ServerResponse } from "node:http";
import { Failure, fail } from "../../kernel/error.ts";
import type { Answer } from "./upstream/answer.ts";
import { GATEWAY_UPSTREAM_FAILED } from "./api.ts";
import { endsBehind } from "./headers.ts";
import type { Ticket } from "./ticket.ts";
import type { Visit } from "./visit.ts";

const CONTINUE = 100;

export interface DeliveryOptions {
  /** Its head is written. */
  readonly response: ServerResponse;
  readonly ticket: Ticket | undefined;
  readonly sent: (bytes: number) => void;
  readonly broken: (failure: Failure) => void;
}

/** Gives on what comes before an answer (RFC 9110 15.2); who speaks HTTP/1.0 would take it for the answer, and 100 was ours to say. */
export function giveInterim(visit: Visit, status: number, headers: readonly string[]): void {
  const { response, request } = visit;
  if (visit.detached || !visit.open || status === CONTINUE || request.httpVersion === "1.0") return;
  const passed: Record<string, string> = {};
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i].toLowerCase();
    if (endsBehind(name)) continue;
    passed[name] = passed[name] === undefined ? headers[i + 1] : `${passed[name]}, ${headers[i + 1]}`;
  }
  response.writeInformation(status, passed);
}

/** Says that a service's answer ended before its end. */
export const brokenOff = (error: Error): Failure =>
  error instanceof Failure ? error : fail(GATEWAY_UPSTREAM_FAILED, "the service's answer broke off", { cause: error });

/** Gives the body as it comes. The route's time does not count while the client is waited for. */
export function deliver(answer: Answer, options: DeliveryOptions): void {
  const { response, sent, broken } = options;
  const { whole } = answer;
  if (whole) {
    sent(whole.length);
    return void response.end(whole);
  }
  answer.read({
    data(chunk) {
      sent(chunk.length);
      if (response.write(chunk)) return true;
      waitForClient(answer, options);
      return false;
    },
    end: () => response.end(),
    broken: (error) => broken(brokenOff(error)),
  });
}

/** Who takes nothing is cut off at the door, which looks at all that is given. */
function waitForClient(answer: Answer, { response, ticket }: DeliveryOptions): void {
  const goOn = ticket?.hold();
  const over = () => {
    response.off("drain", over).off("close", over);
    if (response.destroyed) return;
    goOn?.();
    answer.resume();
  };
  response.on("drain", over).on("close", over);
}
