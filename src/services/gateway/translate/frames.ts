/** Messages of the bus as frames of a WebSocket, one JSON object each; who is too slow for the bus is told to come again. */
import { asFailure } from "../../../kernel/error.ts";
import { BUS_LISTENER_SLOW } from "../../bus/api.ts";
import type { Switched } from "../front/exchange.ts";
import { switching } from "../upstream/handshake.ts";
import type { Reply, Visit } from "../visit.ts";
import { CLOSE } from "../websocket/frames.ts";
import { Session } from "../websocket/session.ts";
import type { WebSocketSettings } from "../websocket.api.ts";
import { type Heard, textOf } from "./message.ts";

/** A client has nothing to say here; a message that it sends nevertheless is not even taken in. */
const MESSAGE_BYTES_MAX = 1_024;

/** Answers with a WebSocket that gives what is heard. */
export function framesOf({ messages, stop }: Heard, visit: Visit, key: string, { idleMs }: WebSocketSettings): Reply {
  const take = ({ socket, rest }: Switched) => {
    visit.ticket!.stop();
    const session: Session = new Session(
      {
        socket,
        messageBytesMax: MESSAGE_BYTES_MAX,
        idleMs,
        message: () => session.close(CLOSE.policy, "this WebSocket only tells"),
        over: stop,
      },
      rest,
    );
    give(messages, session).then(
      () => session.close(CLOSE.goingAway, "the bus has ended the stream"),
      (error: unknown) => {
        const slow = asFailure(error).code === BUS_LISTENER_SLOW.code;
        session.close(slow ? CLOSE.tryAgain : CLOSE.internal, slow ? "messages were missed: read faster" : "");
      },
    );
  };
  return { ...switching(key, undefined, take), done: stop };
}

async function give(messages: AsyncIterable<Parameters<typeof textOf>[0]>, session: Session): Promise<void> {
  for await (const message of messages) {
    if (!session.open) return;
    if (!session.send(Buffer.from(textOf(message)), true)) await session.drained;
  }
}
