/** Enrollment over Secure Transport (RFC 7030) at the door: cacerts, simpleenroll, simplereenroll. Identity decides; this is the wire. */
import { type Call, makeCall } from "../../../kernel/call.ts";
import { asFailure, fail, INPUT_INVALID } from "../../../kernel/error.ts";
import { pem } from "../../../kernel/identity/der.ts";
import type { Identity } from "../../identity/api.ts";
import type { Access } from "../access/access.ts";
import type { Certificates } from "../access/certificates.ts";
import type { Reply, Visit } from "../visit.ts";
import { certsOnly } from "./pkcs7.ts";

export interface EstOptions {
  readonly identity: Identity;
  readonly access: Access;
  readonly certificates: Certificates;
}

const TIMEOUT_MS = 5_000;
const TYPE = "application/pkcs7-mime; smime-type=certs-only";
/** RFC 7030 3.2.3: who may not is told how to come. */
const CHALLENGE = 'Basic realm="holdfast est"';

export class Est {
  readonly #o: EstOptions;

  constructor(options: EstOptions) {
    this.#o = options;
  }

  /** RFC 7030 4.1: the authorities to believe; for anybody. */
  async authorities(visit: Visit): Promise<Reply> {
    const { caPem } = await within(visit, (call) => this.#o.identity.authority({}, call));
    return answer(certsOnly(caPem));
  }

  /**
   * RFC 7030 4.2: a certificate for the request's key. `again`: only with a certificate of this node. INPUT_INVALID,
   * IDENTITY_DEVICE_REFUSED, GATEWAY_TOKENS_GUESSED, GATEWAY_CERTIFICATE_INVALID.
   */
  async enroll(visit: Visit, again: boolean): Promise<Reply> {
    const { identity, access, certificates } = this.#o;
    const code = basicOf(visit);
    const holder = holderOf(certificates.of(visit.exchange.tls)?.subject.name);
    if (code) access.refuseGuesser(visit, `est ${code.name}`);
    const body = { csrPem: requestOf(visit.body), again, ...(code ? { code } : {}), ...(holder ? { holder } : {}) };
    try {
      const { certPem } = await within(visit, (call) => identity.enrollDevice({ body }, call));
      return answer(certsOnly(certPem));
    } catch (error) {
      if (asFailure(error).kind === "unauthorized") {
        visit.extra.push("WWW-Authenticate", CHALLENGE);
        if (code) access.failed(visit, `est ${code.name}`);
      }
      throw error;
    }
  }
}

async function within<T>(visit: Visit, work: (call: Call) => Promise<T>): Promise<T> {
  const call = makeCall({ caller: "gateway", timeoutMs: TIMEOUT_MS, requestId: visit.requestId });
  try {
    return await work(call);
  } finally {
    call.end(false);
  }
}

/** RFC 7617: the device's name and its code. */
function basicOf(visit: Visit): { name: string; code: string } | undefined {
  const [, coded] = /^Basic +([A-Za-z0-9+/=]{1,600})$/i.exec(visit.head?.authorization ?? "") ?? [];
  if (coded === undefined) return undefined;
  const text = Buffer.from(coded, "base64").toString();
  const at = text.indexOf(":");
  return at < 1 ? undefined : { name: text.slice(0, at).slice(0, 200), code: text.slice(at + 1).slice(0, 200) };
}

/** The authority of a believed certificate, and what it calls the holder. */
function holderOf(subject: string | undefined): { authority: string; name: string } | undefined {
  const at = subject?.indexOf("/") ?? -1;
  return subject === undefined || at < 0 ? undefined : { authority: subject.slice(0, at), name: subject.slice(at + 1) };
}

/** RFC 7030 4.2.1: PKCS#10 in base64 (RFC 8951: whatever the transfer encoding says); some clients send DER or PEM. */
function requestOf(body: Buffer | undefined): string {
  const text = body?.toString("latin1") ?? "";
  const base64 = text.replace(/-----[A-Z ]+-----/g, "").replace(/\s/g, "");
  const der = body?.[0] === 0x30 ? body : Buffer.from(/^[A-Za-z0-9+/=]*$/.test(base64) ? base64 : "", "base64");
  if (der.length === 0) throw fail(INPUT_INVALID, "the body is no certificate request (PKCS#10, base64)");
  return pem("CERTIFICATE REQUEST", der);
}

function answer(der: Buffer): Reply {
  const body = Buffer.from(der.toString("base64").replace(/.{76}/g, "$&\r\n"));
  const headers = ["Content-Type", TYPE, "Content-Transfer-Encoding", "base64", "Content-Length", String(body.length)];
  return { status: 200, headers, body };
}
