/** The step that answers in a service's place where it cannot be reached, does not answer in time, or fails. */
import { Failure } from "../../../kernel/error.ts";
import { JSON_TYPE } from "../../../kernel/wire.ts";
import type { FallbackSettings } from "../cache.api.ts";
import { drop, type Reply, type Step } from "../visit.ts";

const FAILED: ReadonlySet<number> = new Set([500, 502, 503, 504]);
const KINDS: ReadonlySet<string> = new Set(["unavailable", "deadline", "communication"]);

/** Makes the step; its answer says so in Cache-Status (RFC 9211) and is never kept. */
export function fallback({ status, json, text }: FallbackSettings): Step {
  const body = Buffer.from(text ?? JSON.stringify(json ?? {}));
  const type = text === undefined ? JSON_TYPE : "text/plain; charset=utf-8";
  const headers = [
    "Content-Type",
    type,
    "Content-Length",
    String(body.length),
    "Cache-Status",
    "holdfast; detail=default",
  ];
  const answer: Reply = { status, headers, body };
  return (next) => async (visit) => {
    try {
      const reply = await next(visit);
      if (!FAILED.has(reply.status)) return reply;
      drop(reply);
      return answer;
    } catch (error) {
      if (error instanceof Failure && KINDS.has(error.kind)) return answer;
      throw error;
    }
  };
}
