/** How devices get certificates: a one-time code or a manufacturer's certificate first, their own after (RFC 7030 at the gateway). */
import { Type } from "typebox";
import { post } from "../../kernel/contract.ts";
import { code } from "../../kernel/error.ts";
import { IDENTITY_NAME_INVALID, IDENTITY_REQUEST_INVALID } from "../../kernel/identity/codes.ts";

export const IDENTITY_DEVICE_REFUSED = code(
  "IDENTITY_DEVICE_REFUSED",
  "unauthorized",
  "Give the device a new code ('holdfast devices code NAME'), or the certificate of a manufacturer that the config names.",
);

const DeviceName = Type.String({ minLength: 1, maxLength: 64 });

/** The operations of identity that are about devices. */
export const deviceOperations = {
  deviceCode: post("/devices/code", {
    summary: "Makes the one-time code with which a device asks for its first certificate.",
    input: {
      body: Type.Object({ name: DeviceName }),
    },
    output: Type.Object({ code: Type.String(), expiresAtMs: Type.Integer() }),
    errors: [IDENTITY_NAME_INVALID],
    public: { scope: "device:enroll" },
  }),
  enrollDevice: post("/devices/enroll", {
    summary: "Certifies a device that came with a code, or with a certificate that the gateway saw it hold.",
    input: {
      body: Type.Object({
        csrPem: Type.String({ maxLength: 8_192 }),
        /** As HTTP Basic has it: the device's name, its code. */
        code: Type.Optional(
          Type.Object({ name: Type.String({ maxLength: 200 }), code: Type.String({ maxLength: 200 }) }),
        ),
        /** What the gateway calls the authority, and what that calls the holder. */
        holder: Type.Optional(Type.Object({ authority: Type.String(), name: Type.String({ maxLength: 400 }) })),
        /** Only who has a certificate of this node already (simplereenroll). */
        again: Type.Boolean(),
      }),
    },
    output: Type.Object({ certPem: Type.String(), name: Type.String(), notAfterMs: Type.Integer() }),
    errors: [IDENTITY_DEVICE_REFUSED, IDENTITY_NAME_INVALID, IDENTITY_REQUEST_INVALID],
    callers: ["gateway"],
  }),
};
