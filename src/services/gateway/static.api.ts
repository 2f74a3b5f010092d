/** Settings of the routes file about what the gateway answers by itself: a fixed answer, another address, files. */
import { type Static, Type } from "typebox";
import { code } from "../../kernel/error.ts";

export const GATEWAY_FILE_UNKNOWN = code(
  "GATEWAY_FILE_UNKNOWN",
  "not-found",
  "Ask for a file that is there; the route's directory is below 'files' in the gateway's own directory.",
);
export const GATEWAY_RANGE_REFUSED = code(
  "GATEWAY_RANGE_REFUSED",
  "range",
  "Ask for a range within the file; Content-Range tells its length.",
);
/** Answered with 412. */
export const GATEWAY_CONDITION_FAILED = code(
  "GATEWAY_CONDITION_FAILED",
  "conflict",
  "Read the file anew: it has changed since the ETag or the time that the request names.",
);
/** Answered where a route or the whole door is closed for a while. */
export const GATEWAY_MAINTENANCE = code(
  "GATEWAY_MAINTENANCE",
  "unavailable",
  "Come back as Retry-After says; somebody works on the node.",
);

const strict = { additionalProperties: false };
const FieldName = "^[A-Za-z][A-Za-z0-9-]{0,63}$";
/** RFC 9110 5.5, in ASCII. */
const FieldValue = Type.String({ pattern: "^[!-~]([ -~]*[!-~])?$", maxLength: 1_024 });

export const RespondSettings = Type.Object(
  {
    status: Type.Integer({ minimum: 200, maximum: 599, default: 200 }),
    headers: Type.Record(Type.String({ pattern: FieldName }), FieldValue, { default: {} }),
    /** Given as JSON. */
    json: Type.Optional(Type.Unknown()),
    text: Type.Optional(Type.String({ maxLength: 65_536 })),
  },
  strict,
);
export type RespondSettings = Static<typeof RespondSettings>;

export const RedirectSettings = Type.Object(
  {
    /** A path of this door, or a whole URL; `{name}` and `/**` stand for what the route's path found. */
    to: Type.String({ pattern: "^(https?://[A-Za-z0-9.:-]+)?/[!-~]*$", maxLength: 2_048 }),
    status: Type.Union(
      [Type.Literal(301), Type.Literal(302), Type.Literal(303), Type.Literal(307), Type.Literal(308)],
      {
        default: 308,
      },
    ),
  },
  strict,
);
export type RedirectSettings = Static<typeof RedirectSettings>;

export const FilesSettings = Type.Object(
  {
    /** Below `files` in the gateway's own directory. */
    directory: Type.String({ pattern: "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$" }),
    /** What a directory's own address answers. */
    index: Type.String({ pattern: "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$", default: "index.html" }),
    /** How long a browser may use a file without asking; 0: it asks each time, and is told where nothing changed. */
    maxAgeS: Type.Integer({ minimum: 0, maximum: 31_536_000, default: 0 }),
    /** Of HTML pages: what they may load. */
    contentSecurityPolicy: Type.Optional(FieldValue),
  },
  strict,
);
export type FilesSettings = Static<typeof FilesSettings>;
