/** Answers with what several services say: asked at once, or one after the other where one needs another's answer. */
import { Failure, fail } from "../../../kernel/error.ts";
import { parseJson, stringifyJson } from "../../../kernel/json.ts";
import { JSON_TYPE } from "../../../kernel/wire.ts";
import { holds } from "../access/tokens.ts";
import { GATEWAY_PART_FAILED, GATEWAY_SCOPE_MISSING } from "../api.ts";
import type { ComposeSettings, Part } from "../compose.api.ts";
import { Answer } from "../upstream/answer.ts";
import type { Handler, Reply, Visit } from "../visit.ts";
import { at, readTemplate } from "./path.ts";

/** A part's answer above this fails the part. */
const PART_BYTES_MAX = 4_194_304;

export interface ComposeOptions {
  readonly settings: ComposeSettings;
  /** The path of the route, in segments, whose names the parts' paths may use. */
  readonly pattern: readonly string[];
  /** Sends to the upstream of a part what the visit's target says. */
  readonly handlerOf: (part: Part) => Handler;
}

/** What a part came to: its value, or why there is none. */
type Outcome = { readonly value: unknown } | { readonly failure: Failure };

interface Piece {
  readonly name: string;
  readonly part: Part;
  readonly path: readonly (string | readonly string[])[];
  readonly take: readonly string[];
  readonly handle: Handler;
}

/** Makes the handler. The answer has `partial: true` and says why where a part is missing; a required one's failure is the route's. */
export function compose({ settings, pattern, handlerOf }: ComposeOptions): Handler {
  const pieces = Object.entries(settings.parts).map(([name, part]): Piece => ({
    name,
    part,
    path: readTemplate(part.path),
    take: part.take === undefined ? [] : part.take.split("."),
    handle: handlerOf(part),
  }));
  return async (visit) => {
    const run = new Run(visit, pieces, pattern);
    const outcomes = await Promise.all(pieces.map(async (piece) => ({ piece, outcome: await run.of(piece.name) })));
    return answerOf(settings, outcomes);
  };
}

class Run {
  readonly #visit: Visit;
  readonly #pieces: readonly Piece[];
  readonly #pattern: readonly string[];
  readonly #outcomes = new Map<string, Promise<Outcome>>();

  constructor(visit: Visit, pieces: readonly Piece[], pattern: readonly string[]) {
    this.#visit = visit;
    this.#pieces = pieces;
    this.#pattern = pattern;
  }

  /** What a part comes to; asked once, whoever needs it. */
  of(name: string): Promise<Outcome> {
    let outcome = this.#outcomes.get(name);
    if (!outcome) {
      outcome = this.#ask(this.#pieces.find((piece) => piece.name === name)!);
      this.#outcomes.set(name, outcome);
    }
    return outcome;
  }

  async #ask(piece: Piece): Promise<Outcome> {
    try {
      const { scope } = piece.part;
      const { verdict } = this.#visit;
      if (scope !== undefined && !(verdict && holds(verdict.subject.scopes, scope)))
        throw fail(GATEWAY_SCOPE_MISSING, `it needs the scope '${scope}'`);
      const reply = await piece.handle(this.#visitOf(piece, await this.#write(piece)));
      const value = at(await valueOf(reply), piece.take);
      if (value === undefined) throw fail(GATEWAY_PART_FAILED, `the answer has no '${piece.take.join(".")}'`);
      return { value };
    } catch (error) {
      const failure =
        error instanceof Failure ? error : fail(GATEWAY_PART_FAILED, "its answer cannot be read", { cause: error });
      return { failure };
    }
  }

  /** The path that a part is asked for; what it takes of others is waited for. */
  async #write({ path }: Piece): Promise<string> {
    const { segments } = this.#visit.target!;
    let written = "";
    for (const piece of path) {
      if (typeof piece === "string") written += piece;
      else written += encodeURIComponent(await this.#named(piece, segments));
    }
    return written;
  }

  async #named([name, ...steps]: readonly string[], segments: readonly string[]): Promise<string> {
    const place = this.#pattern.indexOf(`{${name}}`);
    if (place >= 0) return segments[place];
    const outcome = await this.of(name);
    if ("failure" in outcome) throw fail(GATEWAY_PART_FAILED, `it needs '${name}', which failed`);
    const value = at(outcome.value, steps);
    if (typeof value !== "string" && typeof value !== "number" && typeof value !== "bigint")
      throw fail(GATEWAY_PART_FAILED, `it needs '${[name, ...steps].join(".")}', which is not there`);
    // RFC 3986 5.2.4: as a segment it would lead elsewhere.
    if (value === "." || value === "..") throw fail(GATEWAY_PART_FAILED, `'${value}' is no name`);
    return String(value);
  }

  /** The same request, for one part: its own target, its own time, an answer in JSON. */
  #visitOf({ name, part }: Piece, url: string): Visit {
    const copy = this.#visit.copy();
    const query = url.indexOf("?");
    const path = query < 0 ? url : url.slice(0, query);
    const late = () => fail(GATEWAY_PART_FAILED, `${name} took longer than ${part.timeoutMs} ms`);
    copy.ticket = this.#visit.ticket!.child(part.timeoutMs, late);
    copy.target = { segments: path.slice(1).split("/"), path, query: query < 0 ? "" : url.slice(query) };
    copy.passed = "accept: application/json\r\n";
    return Object.assign(copy, { method: "GET" });
  }
}

async function valueOf(reply: Reply): Promise<unknown> {
  try {
    const body = reply.body instanceof Answer ? await reply.body.gather(PART_BYTES_MAX) : reply.body;
    if (body === undefined) throw fail(GATEWAY_PART_FAILED, `its answer is larger than ${PART_BYTES_MAX} bytes`);
    // Nanoseconds of EdgeX are larger than a double: they stay what they are.
    const value = parseJson(body);
    if (reply.status >= 400) throw refusalOf(reply.status, value);
    return value;
  } finally {
    reply.done?.();
  }
}

/** What a service refused a part with, in its own words. */
function refusalOf(status: number, value: unknown): Failure {
  const said = value as { code?: unknown; message?: unknown } | null;
  const kind = status === 404 ? "not-found" : status === 403 ? "forbidden" : status === 423 ? "locked" : undefined;
  const message = typeof said?.message === "string" ? said.message.slice(0, 500) : `it answered with status ${status}`;
  if (kind === undefined || typeof said?.code !== "string") return fail(GATEWAY_PART_FAILED, message);
  return new Failure({ code: said.code, kind, todo: GATEWAY_PART_FAILED.todo }, message);
}

function answerOf(
  settings: ComposeSettings,
  outcomes: readonly { readonly piece: Piece; readonly outcome: Outcome }[],
): Reply {
  const answer: Record<string, unknown> = { apiVersion: "v3" };
  const failed: { part: string; code: string; message: string }[] = [];
  for (const { piece, outcome } of outcomes) {
    const { name, part } = piece;
    if ("failure" in outcome) {
      const { failure } = outcome;
      if (part.required) throw failure;
      failed.push({ part: name, code: failure.code, message: failure.message });
      if (part.default !== undefined) answer[name] = part.default;
    } else if (settings.merge.includes(name) && typeof outcome.value === "object" && !Array.isArray(outcome.value))
      Object.assign(answer, outcome.value);
    else answer[name] = outcome.value;
  }
  if (failed.length > 0) Object.assign(answer, { partial: true, failed });
  const body = Buffer.from(stringifyJson(answer));
  return { status: 200, headers: ["Content-Type", JSON_TYPE, "Content-Length", String(body.length)], body };
}
