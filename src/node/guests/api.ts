/** The operations of the node's own contract about services of somebody else's: what `holdfast run` asks for. */
import { type Static, Type } from "typebox";
import { post, stream } from "../../kernel/contract.ts";
import { NODE_SERVICE_UNKNOWN } from "../codes.ts";
import {
  GUEST_NAME,
  GuestSpec,
  NODE_GUEST_FILE_MISSING,
  NODE_GUEST_NAME_TAKEN,
  NODE_GUEST_NEED_MISSING,
  NODE_GUEST_NEED_UNKNOWN,
  NODE_GUEST_UNUSABLE,
  NODE_GUESTS_TOO_MANY,
} from "./spec.ts";

/** `named`: it is let in under this name; `state`; `line`: of the log book. */
export const GuestTold = Type.Object({
  event: Type.Union([Type.Literal("named"), Type.Literal("state"), Type.Literal("line")]),
  text: Type.String(),
  reason: Type.Optional(Type.String()),
});
export type GuestTold = Static<typeof GuestTold>;

export const guestOperations = {
  run: stream("/run", {
    summary: "Runs a service of somebody else's and tells of it, until it is ended or nobody listens any more.",
    input: { spec: GuestSpec, name: Type.Optional(Type.String({ pattern: GUEST_NAME })) },
    output: GuestTold,
    errors: [
      NODE_GUEST_FILE_MISSING,
      NODE_GUEST_UNUSABLE,
      NODE_GUEST_NEED_UNKNOWN,
      NODE_GUEST_NEED_MISSING,
      NODE_GUEST_NAME_TAKEN,
      NODE_GUESTS_TOO_MANY,
    ],
    callers: ["cli"],
  }),
  end: post("/end", {
    summary: "Ends a service that 'holdfast run' started; answers when it is gone.",
    input: { body: Type.Object({ name: Type.String({ maxLength: 63 }) }) },
    output: Type.Object({}),
    errors: [NODE_SERVICE_UNKNOWN],
    callers: ["cli"],
    timeoutMs: 15_000,
  }),
};
