/** Settings of the routes file about the bus: HTTP to a topic, and from topics to HTTP. */
import { type Static, Type } from "typebox";
import { code } from "../../kernel/error.ts";

export const GATEWAY_TOPIC_REFUSED = code(
  "GATEWAY_TOPIC_REFUSED",
  "invalid",
  "Ask for a topic without wildcards and slashes in the places that the route fills in.",
);

const strict = { additionalProperties: false };
/** `{name}` is what the route's path found there. */
const Topic = Type.String({ pattern: "^[^\\u0000]+$", maxLength: 1_024 });

export const TopicSettings = Type.Union([
  /** POST and PUT: the body is published there, and answered with 202. */
  Type.Object({ publish: Topic }, strict),
  /**
   * POST and PUT: the body is published, and the first message on the other topic is the answer, within the route's time.
   * `{requestId}` is this request's id: with it in both topics each question has its own answer.
   */
  Type.Object({ request: Topic, reply: Topic }, strict),
  /** GET: what is published from now on to any of these filters, as server-sent events; over a WebSocket, too, where the route has `websocket`. */
  Type.Object({ listen: Type.Array(Topic, { minItems: 1, maxItems: 16 }) }, strict),
]);
export type TopicSettings = Static<typeof TopicSettings>;
