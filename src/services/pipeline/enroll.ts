/** Joins a cloud with a one-time code: first it is made sure who the cloud is, then the secret is said. */
import { createHash, X509Certificate } from "node:crypto";
import { Agent } from "node:https";
import type { Call } from "../../kernel/call.ts";
import { portOf } from "../../kernel/config-reach.ts";
import { connect } from "../../kernel/connect.ts";
import { asFailure, fail } from "../../kernel/error.ts";
import { spiffeName } from "../../kernel/identity/names.ts";
import { certificateName } from "../../kernel/identity/peer.ts";
import { makeKeyAndRequest } from "../../kernel/identity/request.ts";
import { TlsIdentity } from "../../kernel/identity/tls.ts";
import { cloud } from "../cloud/api.ts";
import { PIPELINE_ENROLL_FAILED } from "./api.ts";
import { forbiddenPort } from "./destinations/wire.ts";
import type { Enrollment } from "./store.ts";
import { targetOf } from "./uplink/link.ts";

const FINGERPRINT_BYTES = 32;

/** Enrolls; PIPELINE_ENROLL_FAILED says what went wrong. */
export async function enrollWith(url: string, code: string, edge: string, call: Call): Promise<Enrollment> {
  try {
    return await join(url, code.trim(), edge, call);
  } catch (error) {
    const failure = asFailure(error);
    if (failure.code === PIPELINE_ENROLL_FAILED.code) throw failure;
    const port = portOf(url);
    const { message } = (port === undefined ? undefined : forbiddenPort(failure, port)) ?? failure;
    throw fail(PIPELINE_ENROLL_FAILED, `the cloud at ${url} did not enroll this node: ${message}`, { cause: error });
  }
}

async function join(url: string, code: string, edge: string, call: Call): Promise<Enrollment> {
  const fingerprint = Buffer.from(code.split(".")[1] ?? "", "base64url");
  if (fingerprint.length !== FINGERPRINT_BYTES)
    throw fail(PIPELINE_ENROLL_FAILED, "the code is not whole: it has the form SECRET.FINGERPRINT");
  if (!URL.canParse(url)) throw fail(PIPELINE_ENROLL_FAILED, `'${url}' is no address of the form https://HOST:PORT`);
  const clientOver = (agent: Agent) =>
    connect(cloud, { resolver: { pick: () => targetOf(url, agent), failed: () => undefined } });

  // Nothing secret is said on this first connection; what it answers is believed only if the fingerprint says so.
  const unchecked = new Agent({ minVersion: "TLSv1.3", rejectUnauthorized: false });
  const { caPem: told, node } = await clientOver(unchecked)
    .authority({}, call)
    .finally(() => unchecked.destroy());
  const authority = readAuthority(told, url);
  const seen = createHash("sha256").update(authority.raw).digest();
  if (!seen.equals(fingerprint)) {
    const shown = seen.toString("hex").slice(0, 16);
    throw fail(
      PIPELINE_ENROLL_FAILED,
      `${url} is not the cloud the code is from (its authority's fingerprint is ${shown}...)`,
    );
  }
  // The one certificate that was compared, not the text that it came in: a second one behind it would be trusted, too.
  const caPem = authority.toString();
  const checked = new Agent({
    minVersion: "TLSv1.3",
    ca: caPem,
    checkServerIdentity: (_host, peer) => {
      const name = certificateName(peer.raw);
      return name?.node === node && name.service === "cloud" ? undefined : new Error("the peer is not the cloud");
    },
  });
  const service = `edge.${edge}`;
  const { csrPem, keyPem } = await makeKeyAndRequest(spiffeName(node, service));
  const { certPem } = await clientOver(checked)
    .enroll({ body: { edge, code, csrPem } }, call)
    .finally(() => checked.destroy());
  // A certificate that is none of ours would be found out at the first connection only, when the code is used up and forgotten.
  new TlsIdentity({ node, service, caPem }).update({ certPem, keyPem });
  if (!new X509Certificate(certPem).verify(authority.publicKey))
    throw fail(PIPELINE_ENROLL_FAILED, `${url} gave a certificate that its authority has not signed`);
  return { url, cloud: node, edge, caPem, certPem, keyPem };
}

function readAuthority(pem: string, url: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw fail(PIPELINE_ENROLL_FAILED, `${url} is no cloud: what it calls its authority cannot be read`, { cause });
  }
}

/** A node's name in the form that clouds take (lower case, digits, dashes). */
export const edgeName = (node: string): string =>
  node
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 63) || "edge";
