/** What CoAP and HTTP call each other's things (RFC 7252 5, 12; RFC 8075): options, formats, methods, codes. */

export const OPTION = {
  uriHost: 3,
  etag: 4,
  observe: 6,
  uriPort: 7,
  uriPath: 11,
  contentFormat: 12,
  maxAge: 14,
  uriQuery: 15,
  accept: 17,
  block2: 23,
  block1: 27,
  size2: 28,
  proxyUri: 35,
  proxyScheme: 39,
  size1: 60,
} as const;

/** Critical options that are understood (RFC 7252 5.4.1): all others are refused with 4.02. */
export const UNDERSTOOD: ReadonlySet<number> = new Set([
  OPTION.uriHost,
  OPTION.uriPort,
  OPTION.uriPath,
  OPTION.uriQuery,
  OPTION.accept,
  OPTION.block1,
  OPTION.block2,
  OPTION.proxyUri,
  OPTION.proxyScheme,
]);

/** By number; RFC 7252 12.3 and the registry. */
const FORMATS: readonly (readonly [number: number, type: string])[] = [
  [0, "text/plain; charset=utf-8"],
  [40, "application/link-format"],
  [41, "application/xml"],
  [42, "application/octet-stream"],
  [50, "application/json"],
  [60, "application/cbor"],
];
export const typeOfFormat = (number: number): string | undefined => FORMATS.find(([each]) => each === number)?.[1];
export const formatOfType = (type: string | undefined): number | undefined => {
  const name = type?.split(";", 1)[0].trim().toLowerCase();
  return FORMATS.find(([, each]) => each.split(";", 1)[0] === name)?.[0];
};

export const METHODS: Readonly<Record<number, string>> = { 1: "GET", 2: "POST", 3: "PUT", 4: "DELETE" };

/** `4.04` as it lies in a message. */
export const codeOf = (text: string): number => (Number(text[0]) << 5) | Number(text.slice(2));
export const CODE = {
  created: codeOf("2.01"),
  deleted: codeOf("2.02"),
  valid: codeOf("2.03"),
  changed: codeOf("2.04"),
  content: codeOf("2.05"),
  continue: codeOf("2.31"),
  badRequest: codeOf("4.00"),
  badOption: codeOf("4.02"),
  methodNotAllowed: codeOf("4.05"),
  notAcceptable: codeOf("4.06"),
  incomplete: codeOf("4.08"),
  tooLarge: codeOf("4.13"),
  formatUnknown: codeOf("4.15"),
  internal: codeOf("5.00"),
  badGateway: codeOf("5.02"),
  unavailable: codeOf("5.03"),
  proxyNot: codeOf("5.05"),
} as const;

/** RFC 8516: too many requests. */
const SAME: ReadonlySet<number> = new Set([
  400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 429, 500, 501, 502, 503, 504,
]);

/** The code of an HTTP status (RFC 8075 7, the other way round). */
export function codeOfStatus(status: number, method: string): number {
  if (SAME.has(status)) return (Math.floor(status / 100) << 5) | (status % 100);
  if (status === 201) return CODE.created;
  if (status === 304) return CODE.valid;
  if (status >= 200 && status < 300)
    return method === "DELETE" ? CODE.deleted : method === "GET" ? CODE.content : CODE.changed;
  // A client that knows no redirects cannot follow one.
  if (status < 400) return CODE.badGateway;
  return status < 500 ? CODE.badRequest : CODE.internal;
}
