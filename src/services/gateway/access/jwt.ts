/** Reads a JWT to the letter, before anything is believed of it: what two readers could read differently is none. */
import { type Failure, fail } from "../../../kernel/error.ts";
import { parseJson } from "../../../kernel/json.ts";
import { GATEWAY_TOKEN_INVALID } from "../api.ts";

/** Longer ones are refused; header and claims of any issuer we know of take less. */
const TOKEN_LENGTH_MAX = 8_192;
/** Levels of nesting in a header or in claims. */
const DEPTH_MAX = 16;
/** RFC 7515 7.1, and RFC 4648 5 without padding. */
const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
/**
 * Headers that bring a key along or say where to fetch one (RFC 8725 3.10, CVE-2018-0114), that have to be understood
 * (RFC 7515 4.1.11), or that make the content something else (RFC 7797, RFC 8725 3.6).
 */
const HEADERS_REFUSED = ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc", "epk"];

type Members = Readonly<Record<string, unknown>>;

/** A JWT that is well formed; nobody has looked at its signature. */
export interface Jwt {
  readonly token: string;
  readonly alg: string;
  readonly kid: string;
  /** Lower case, without `application/` (RFC 7515 4.1.9); empty where it says none. */
  readonly type: string;
  readonly claims: Members;
}

/** Reads a token's header and claims; GATEWAY_TOKEN_INVALID. */
export function readJwt(token: string): Jwt {
  if (token.length > TOKEN_LENGTH_MAX || !COMPACT.test(token)) throw invalid("it is no JWT in strict base64url");
  const [header, claims] = token.split(".").map(bytesOf) as [Buffer, Buffer, Buffer];
  const { alg, kid, typ, ...rest } = objectOf(header, "header");
  const refused = HEADERS_REFUSED.find((name) => Object.hasOwn(rest, name));
  if (refused !== undefined) throw invalid(`its header has '${refused}'`);
  if (typeof alg !== "string") throw invalid("it does not name its algorithm");
  if (typeof kid !== "string" || kid === "") throw invalid("it does not name its key");
  if (typ !== undefined && typeof typ !== "string") throw invalid("its type is no text");
  const type = (typ ?? "").toLowerCase().replace(/^application\//, "");
  return { token, alg, kid, type, claims: objectOf(claims, "claims") };
}

/** Makes the refusal of a token; what is said of it holds nothing of the token. */
export const invalid = (why: string, cause?: unknown): Failure =>
  fail(GATEWAY_TOKEN_INVALID, `the token is not valid: ${why}`, cause === undefined ? undefined : { cause });

/** RFC 4648 3.5: the bits that encode nothing are zero; a lenient reader takes many texts for one token. */
function bytesOf(part: string): Buffer {
  const bytes = Buffer.from(part, "base64url");
  if (bytes.toString("base64url") !== part) throw invalid("it is no JWT in strict base64url");
  return bytes;
}

/** RFC 7515 4, RFC 7519 4: names that come twice are refused, so that nobody reads another one than we do. */
function objectOf(bytes: Buffer, what: string): Members {
  let value: unknown;
  try {
    value = parseJson(bytes, { bytesMax: TOKEN_LENGTH_MAX, depthMax: DEPTH_MAX });
  } catch (error) {
    throw invalid(`its ${what} is no JSON object with each name once`, error);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid(`its ${what} is no object`);
  return value as Members;
}
