/** HTTP and the bus: a body becomes a message, and messages become server-sent events (WHATWG HTML 9.2). */
import { isUtf8 } from "node:buffer";
import { setTimeout as sleep } from "node:timers/promises";
import { makeCall } from "../../../kernel/call.ts";
import { fail } from "../../../kernel/error.ts";
import type { Bus, BusMessage } from "../../bus/api.ts";
import { GATEWAY_BUSY } from "../api.ts";
import { json, refuseMethod } from "../pages.ts";
import { GATEWAY_TOPIC_REFUSED, type TopicSettings } from "../topic.api.ts";
import { Answer } from "../upstream/answer.ts";
import type { Handler, Reply, Visit } from "../visit.ts";

export interface TopicsOptions {
  readonly bus: Pick<Bus, "publish" | "listen">;
  readonly settings: TopicSettings;
  /** The route's path, whose names the topics use. */
  readonly pattern: string;
}

const PUBLISHING = ["POST", "PUT"];
const LISTENING = ["GET", "HEAD"];
const PUBLISH_MS = 5_000;
/** A comment so often tells a quiet topic from a cut cable, to whatever is between. */
const PING_MS = 15_000;
const SIGN_OF_LIFE = Buffer.from(":\n\n");
/** The bus has so long to refuse what is listened to, before the answer begins. */
const REFUSED_MS = 50;
/** Clients of one route that listen at once; more are refused with GATEWAY_BUSY. */
const LISTENERS_MAX = 256;

/** Makes the handler; GATEWAY_TOPIC_REFUSED, GATEWAY_BUSY, or what the bus refuses with. */
export function topics({ bus, settings, pattern }: TopicsOptions): Handler {
  const names = pattern.slice(1).split("/");
  if ("publish" in settings) {
    const topicOf = topicWriter(settings.publish, names);
    return (visit) => {
      if (!PUBLISHING.includes(visit.method)) throw refuseMethod(visit, PUBLISHING);
      return publish(bus, topicOf(visit), visit);
    };
  }
  const filters = settings.listen.map((filter) => topicWriter(filter, names));
  const load = { listening: 0 };
  return (visit) => {
    if (!LISTENING.includes(visit.method)) throw refuseMethod(visit, LISTENING);
    if (load.listening >= LISTENERS_MAX)
      throw fail(GATEWAY_BUSY, "as many clients listen here as may", { retryAfterS: 5 });
    const filled = filters.map((topicOf) => topicOf(visit));
    return visit.method === "HEAD"
      ? { status: 200, headers: EVENTS, body: undefined }
      : listen(bus, filled, load, visit);
  };
}

async function publish(bus: TopicsOptions["bus"], topic: string, visit: Visit): Promise<Reply> {
  const call = callOf(visit, PUBLISH_MS);
  try {
    const { position } = await bus.publish({ body: { topic, payload: visit.body ?? Buffer.alloc(0) } }, call);
    return json(202, { topic, ...(position === undefined ? {} : { position }) });
  } finally {
    call.end(false);
  }
}

const EVENTS = [
  "Content-Type",
  "text/event-stream; charset=utf-8",
  "Cache-Control",
  "no-store",
  "X-Accel-Buffering",
  "no",
];

async function listen(
  bus: TopicsOptions["bus"],
  filters: readonly string[],
  load: { listening: number },
  visit: Visit,
): Promise<Reply> {
  const call = callOf(visit, Number.POSITIVE_INFINITY);
  load.listening++;
  const over = () => {
    load.listening--;
    call.end(true);
  };
  try {
    const messages = bus.listen({ topics: [...filters] }, call)[Symbol.asyncIterator]();
    const first = messages.next();
    // The bus refuses at once: then there is an answer that says so.
    await Promise.race([first, sleep(REFUSED_MS, undefined, { ref: false })]);
    const { body, stop } = eventsOf(messages, first, () => call.end(true));
    const done = () => {
      stop();
      over();
    };
    return { status: 200, headers: EVENTS, body, done };
  } catch (error) {
    over();
    throw error;
  }
}

/** Gives messages as they come, at the pace of their reader. */
function eventsOf(
  messages: AsyncIterator<BusMessage>,
  first: Promise<IteratorResult<BusMessage>>,
  cut: () => void,
): { readonly body: Answer; readonly stop: () => void } {
  let paused: PromiseWithResolvers<void> | undefined;
  const resume = () => {
    paused?.resolve();
    paused = undefined;
  };
  const body = new Answer(200, EVENTS, undefined, {
    pause: () => void (paused ??= Promise.withResolvers<void>()),
    resume,
    cut,
  });
  const ping = setInterval(() => paused ?? body.push(SIGN_OF_LIFE), PING_MS).unref();
  const give = async () => {
    // So that the head goes out at once, and the client knows that it listens.
    body.push(SIGN_OF_LIFE);
    for (let next = await first; !next.done; next = await messages.next()) {
      body.push(eventOf(next.value));
      if (paused) await paused.promise;
    }
  };
  give().then(
    () => body.finish(),
    (error: unknown) => body.break(error as Error),
  );
  return {
    body,
    stop: () => {
      clearInterval(ping);
      resume();
    },
  };
}

/** One event; its data is JSON in one line: the payload as JSON where it is that, as text, or else as base64. */
function eventOf({ topic, payload, position }: BusMessage): Buffer {
  const id = position === undefined ? "" : `id: ${position}\n`;
  return Buffer.from(`${id}data: ${JSON.stringify({ topic, ...contentOf(Buffer.from(payload)) })}\n\n`);
}

function contentOf(payload: Buffer): object {
  if (!isUtf8(payload)) return { base64: payload.toString("base64") };
  const text = payload.toString();
  try {
    return { payload: JSON.parse(text) as unknown };
  } catch {
    // A text that is no JSON is a text.
    return { text };
  }
}

function callOf({ requestId, spanId, verdict }: Visit, timeoutMs: number) {
  const subject = verdict ? { subject: verdict.subject } : {};
  return makeCall({ caller: "gateway", timeoutMs, requestId, parentId: spanId, ...subject });
}

/** Fills names in; what comes from a stranger is one level of a topic and no wildcard ([MQTT-4.7.1-1]). */
function topicWriter(template: string, names: readonly string[]): (visit: Visit) => string {
  const pieces = template.split(/(\{[A-Za-z]\w*\})/);
  return ({ target }) =>
    pieces
      .map((piece) => {
        if (!/^\{[A-Za-z]\w*\}$/.test(piece)) return piece;
        const level = target!.segments[names.indexOf(piece)] ?? "";
        if (level === "" || /[+#/\0$]/.test(level))
          throw fail(GATEWAY_TOPIC_REFUSED, `'${level.slice(0, 100)}' is no level of a topic`);
        return level;
      })
      .join("");
}
