/** What HTTP answers as CoAP says it: a code, a few options, the whole body. */
import { fail } from "../../../kernel/error.ts";
import { GATEWAY_UPSTREAM_FAILED } from "../api.ts";
import { fieldOf } from "../cache/entry.ts";
import { brokenOff } from "../delivery.ts";
import { Answer } from "../upstream/answer.ts";
import type { Reply, Visit } from "../visit.ts";
import { BODY_BYTES_MAX } from "./blocks.ts";
import { type Option, uintBytes } from "./packet.ts";
import { codeOfStatus, formatOfType, OPTION } from "./terms.ts";

export interface Said {
  readonly code: number;
  readonly options: readonly Option[];
  readonly payload: Buffer;
}

export const option = (number: number, value: number): Option => ({ number, value: uintBytes(value) });

/** Says something in words (RFC 7252 5.5.2). */
export const inWords = (code: number, message: string, options: readonly Option[] = []): Said => ({
  code,
  options,
  payload: Buffer.from(message.slice(0, 200)),
});

/** Makes it of a reply, all of whose body has to come; GATEWAY_UPSTREAM_FAILED where it is too large for devices. */
export async function saidOf(reply: Reply, visit: Visit): Promise<Said> {
  const { status, headers, body } = reply;
  try {
    const payload = body instanceof Answer ? await gathered(body, visit) : (body ?? Buffer.alloc(0));
    if (payload.length > BODY_BYTES_MAX) throw tooLarge();
    const format = formatOfType(fieldOf(headers, "content-type"));
    const options = [option(OPTION.maxAge, maxAgeOf(headers))];
    // What errors say is for people, whatever its form.
    if (format !== undefined && payload.length > 0) options.push(option(OPTION.contentFormat, format));
    return { code: codeOfStatus(status, visit.method), options, payload };
  } finally {
    reply.done?.();
  }
}

async function gathered(answer: Answer, visit: Visit): Promise<Buffer> {
  try {
    const bytes = await visit.ticket!.wait(answer.gather(BODY_BYTES_MAX));
    if (bytes) return bytes;
  } catch (error) {
    answer.cut();
    throw brokenOff(error as Error);
  }
  throw tooLarge();
}

const tooLarge = () =>
  fail(GATEWAY_UPSTREAM_FAILED, `an answer of more than ${BODY_BYTES_MAX} bytes does not go over CoAP`);

/** RFC 7252 5.10.5: without it an answer would be fresh for a minute. */
function maxAgeOf(headers: readonly string[]): number {
  const control = fieldOf(headers, "cache-control") ?? "no-store";
  const age = /(?:^|[\s,])max-age=(\d{1,9})/i.exec(control)?.[1];
  return age === undefined || /no-store|no-cache/i.test(control) ? 0 : Number(age);
}
