/** Joins a cloud with a one-time code: first it is made sure who the cloud is, then the secret is said. */
import { createHash, X509Certificate } from "node:crypto";
import { Agent } from "node:https";
import type { Call } from "../../kernel/call.ts";
import { connect, type Target } from "../../kernel/connect.ts";
import { asFailure, fail } from "../../kernel/error.ts";
import { certificateName } from "../../kernel/identity/peer.ts";
import { spiffeName } from "../../kernel/identity/names.ts";
import { makeKeyAndRequest } from "../../kernel/identity/request.ts";
import { cloud } from "../cloud/api.ts";
import { PIPELINE_ENROLL_FAILED } from "./api.ts";
import type { Enrollment } from "./store.ts";

/** Enrolls; PIPELINE_ENROLL_FAILED says what went wrong. */
export async function enrollWith(url: string, code: string, edge: string, call: Call): Promise<Enrollment> {
  try {
    return await join(url, code.trim(), edge, call);
  } catch (error) {
    const failure = asFailure(error);
    if (failure.code === PIPELINE_ENROLL_FAILED.code) throw failure;
    throw fail(PIPELINE_ENROLL_FAILED, `the cloud at ${url} did not enroll this node: ${failure.message}`, { cause: error });
  }
}

async function join(url: string, code: string, edge: string, call: Call): Promise<Enrollment> {
  const fingerprint = Buffer.from(code.split(".")[1] ?? "", "base64url").toString("hex");
  if (fingerprint.length !== 64) throw fail(PIPELINE_ENROLL_FAILED, "the code is not whole: it has the form SECRET.FINGERPRINT");
  const at = new URL(url);
  const target = (agent: Agent): Target => ({ host: at.hostname.replace(/^\[|\]$/g, ""), port: Number(at.port || 443), agent, secure: true });
  const clientOver = (agent: Agent) => connect(cloud, { resolver: { pick: () => target(agent), failed: () => undefined } });

  // Nothing secret is said on this first connection; what it answers is believed only if the fingerprint says so.
  const unchecked = new Agent({ minVersion: "TLSv1.3", rejectUnauthorized: false });
  const { caPem, node } = await clientOver(unchecked).authority({}, call).finally(() => unchecked.destroy());
  const seen = createHash("sha256").update(new X509Certificate(caPem).raw).digest("hex");
  if (seen !== fingerprint) throw fail(PIPELINE_ENROLL_FAILED, `${url} is not the cloud the code is from (its authority's fingerprint is ${seen.slice(0, 16)}...)`);

  const checked = new Agent({
    minVersion: "TLSv1.3",
    ca: caPem,
    checkServerIdentity: (_host, peer) => {
      const name = certificateName(peer.raw);
      return name?.node === node && name.service === "cloud" ? undefined : new Error("the peer is not the cloud");
    },
  });
  const { csrPem, keyPem } = await makeKeyAndRequest(spiffeName(node, `edge.${edge}`));
  const { certPem } = await clientOver(checked).enroll({ body: { edge, code, csrPem } }, call).finally(() => checked.destroy());
  return { url, cloud: node, edge, caPem, certPem, keyPem };
}

/** A node's name in the form that clouds take (lower case, digits, dashes). */
export const edgeName = (node: string): string => node.toLowerCase().replace(/[^a-z0-9-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 63) || "edge";
