/** Settings of the routes file about WebSockets. */
import { type Static, Type } from "typebox";
import { code } from "../../kernel/error.ts";

/** Answered with 426 (RFC 9110 15.5.22). */
export const GATEWAY_UPGRADE_REQUIRED = code(
  "GATEWAY_UPGRADE_REQUIRED",
  "invalid",
  "Open a WebSocket of version 13 here (RFC 6455).",
);
export const GATEWAY_ORIGIN_REFUSED = code(
  "GATEWAY_ORIGIN_REFUSED",
  "forbidden",
  "Open the WebSocket from a page of this door, or name the page's origin in the route.",
);

export const WebSocketSettings = Type.Object(
  {
    /** Pages that may open it, beside those of this door: `https://console.example.org`. */
    origins: Type.Array(Type.String({ pattern: "^https?://[a-z0-9.:-]+$", maxLength: 256 }), {
      maxItems: 32,
      default: [],
    }),
    /** One that carries nothing for so long is cut. */
    idleMs: Type.Integer({ minimum: 100, maximum: 86_400_000, default: 300_000 }),
  },
  { additionalProperties: false },
);
export type WebSocketSettings = Static<typeof WebSocketSettings>;
