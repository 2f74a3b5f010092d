/** Settings of the routes file about CoAP (RFC 7252): which routes devices may ask for by it. */
import { type Static, Type } from "typebox";

export const CoapSettings = Type.Object(
  {
    /** A request of one device may have as many bytes, in blocks (RFC 7959); an answer, too. */
    bodyBytesMax: Type.Integer({ minimum: 1, maximum: 1_048_576, default: 65_536 }),
  },
  { additionalProperties: false },
);
export type CoapSettings = Static<typeof CoapSettings>;
