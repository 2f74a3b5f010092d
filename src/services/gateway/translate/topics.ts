/** HTTP and the bus: a body becomes a message, or a question; messages become events (WHATWG HTML 9.2) or frames. */
import { setTimeout as sleep } from "node:timers/promises";
import { makeCall } from "../../../kernel/call.ts";
import { fail } from "../../../kernel/error.ts";
import type { Bus, BusMessage } from "../../bus/api.ts";
import { GATEWAY_BUSY } from "../api.ts";
import { Said } from "../headers.ts";
import { json, refuseMethod } from "../pages.ts";
import { GATEWAY_TOPIC_REFUSED, type TopicSettings } from "../topic.api.ts";
import { Answer } from "../upstream/answer.ts";
import { readKey } from "../upstream/handshake.ts";
import type { Handler, Reply, Visit } from "../visit.ts";
import type { WebSocketSettings } from "../websocket.api.ts";
import { framesOf } from "./frames.ts";
import { type Heard, textOf, typeOf } from "./message.ts";

export interface TopicsOptions {
  readonly bus: Pick<Bus, "publish" | "listen" | "request">;
  readonly settings: TopicSettings;
  /** Clients may listen over a WebSocket, too. */
  readonly websocket: WebSocketSettings | undefined;
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
/** The bus waits no longer for an answer, whatever the route's time. */
const ANSWER_MS_MAX = 60_000;
/** Clients of one route that listen at once; more are refused with GATEWAY_BUSY. */
const LISTENERS_MAX = 256;

/** Makes the handler; GATEWAY_TOPIC_REFUSED, GATEWAY_BUSY, or what the bus refuses with. */
export function topics(options: TopicsOptions): Handler {
  const { bus, settings, pattern, websocket } = options;
  const names = pattern.slice(1).split("/");
  if ("request" in settings) return asking(bus, settings, names);
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
    if (visit.method === "HEAD") return { status: 200, headers: EVENTS, body: undefined };
    if (visit.exchange.upgrades && websocket) {
      const key = readKey(visit, websocket);
      return listen(bus, filled, load, visit, (heard) => framesOf(heard, visit, key, websocket));
    }
    return listen(bus, filled, load, visit, eventsOf);
  };
}

/** Makes the handler that publishes a question and answers with what comes on the topic of answers; DEADLINE. */
function asking(
  bus: TopicsOptions["bus"],
  settings: Extract<TopicSettings, { request: string }>,
  names: readonly string[],
): Handler {
  const [topicOf, answerTopicOf] = [topicWriter(settings.request, names), topicWriter(settings.reply, names)];
  return async (visit) => {
    if (!PUBLISHING.includes(visit.method)) throw refuseMethod(visit, PUBLISHING);
    const timeoutMs = Math.max(1, Math.min(ANSWER_MS_MAX, Math.floor(visit.ticket!.leftMs)));
    const call = callOf(visit, timeoutMs);
    const asked = {
      topic: topicOf(visit),
      responseTopic: answerTopicOf(visit),
      payload: visit.body ?? Buffer.alloc(0),
      timeoutMs,
    };
    try {
      const { payload } = await visit.ticket!.wait(bus.request({ body: asked }, call));
      const body = Buffer.from(payload);
      return { status: 200, headers: ["Content-Type", typeOf(body), "Content-Length", String(body.length)], body };
    } finally {
      call.end(true);
    }
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
  give: (heard: Heard) => Reply,
): Promise<Reply> {
  const call = callOf(visit, Number.POSITIVE_INFINITY);
  load.listening++;
  let listening = true;
  const stop = () => {
    if (listening) load.listening--;
    listening = false;
    call.end(true);
  };
  try {
    const messages = bus.listen({ topics: [...filters] }, call)[Symbol.asyncIterator]();
    const first = messages.next();
    // The bus refuses at once: then there is an answer that says so.
    await Promise.race([first, sleep(REFUSED_MS, undefined, { ref: false })]);
    return give({ messages: goOn(first, messages), stop });
  } catch (error) {
    stop();
    throw error;
  }
}

async function* goOn(first: Promise<IteratorResult<BusMessage>>, messages: AsyncIterator<BusMessage>) {
  for (let next = await first; !next.done; next = await messages.next()) yield next.value;
}

/** Gives messages as they come, at the pace of their reader. */
function eventsOf({ messages, stop }: Heard): Reply {
  let paused: PromiseWithResolvers<void> | undefined;
  const resume = () => {
    paused?.resolve();
    paused = undefined;
  };
  const body = new Answer(200, new Said(EVENTS), undefined, {
    pause: () => void (paused ??= Promise.withResolvers<void>()),
    resume,
    cut: stop,
  });
  const ping = setInterval(() => paused ?? body.push(SIGN_OF_LIFE), PING_MS).unref();
  const give = async () => {
    // So that the head goes out at once, and the client knows that it listens.
    body.push(SIGN_OF_LIFE);
    for await (const message of messages) {
      body.push(eventOf(message));
      if (paused) await paused.promise;
    }
  };
  give().then(
    () => body.finish(),
    (error: unknown) => body.break(error as Error),
  );
  const done = () => {
    clearInterval(ping);
    resume();
    stop();
  };
  return { status: 200, headers: EVENTS, body, done };
}

/** One event; its data is JSON in one line. */
function eventOf(message: BusMessage): Buffer {
  const id = message.position === undefined ? "" : `id: ${message.position}\n`;
  return Buffer.from(`${id}data: ${textOf(message)}\n\n`);
}

function callOf({ requestId, spanId, verdict }: Visit, timeoutMs: number) {
  const subject = verdict ? { subject: verdict.subject } : {};
  return makeCall({ caller: "gateway", timeoutMs, requestId, parentId: spanId, ...subject });
}

/** Fills names in; what comes from a stranger is one level of a topic and no wildcard ([MQTT-4.7.1-1]). */
function topicWriter(template: string, names: readonly string[]): (visit: Visit) => string {
  const pieces = template.split(/(\{[A-Za-z]\w*\})/);
  return ({ target, requestId }) =>
    pieces
      .map((piece) => {
        if (piece === "{requestId}") return requestId;
        if (!/^\{[A-Za-z]\w*\}$/.test(piece)) return piece;
        const level = target!.segments[names.indexOf(piece)] ?? "";
        if (level === "" || /[+#/\0$]/.test(level))
          throw fail(GATEWAY_TOPIC_REFUSED, `'${level.slice(0, 100)}' is no level of a topic`);
        return level;
      })
      .join("");
}
