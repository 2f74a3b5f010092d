/** The rules of onboarding: which device may have a certificate, and of which name. What its request asks to be called is ignored. */
import { createHash, randomBytes } from "node:crypto";
import { asFailure, fail } from "../../kernel/error.ts";
import { deviceName, parseDeviceName } from "../../kernel/identity/names.ts";
import type { Admissions } from "./admission.ts";
import type { Identity } from "./api.ts";
import type { Authorities } from "./authorities.ts";
import { IDENTITY_DEVICE_REFUSED } from "./devices.api.ts";
import type { Issued } from "./issued.ts";

/** On the monotonic clock; codes are in memory alone, and a restart of identity ends them. */
export const CODE_MS = 3_600_000;
const CODE_BYTES = 10;
/** The gateway's name for this node's own authorities. */
const OWN = "node";
/** Codes are announced and used up as instances of services are; no service has such a name. */
const DEVICE = "(device)";

export interface DevicesOptions {
  readonly node: string;
  readonly authorities: Authorities;
  readonly issued: Issued;
  readonly codes: Admissions;
  readonly lifetimeMs: number;
  /** Authorities whose holders are devices that may come (as the gateway's config calls them). */
  readonly manufacturers: readonly string[];
  wallMs(): number;
}

/** Makes the operations about devices. */
export function makeDevices(options: DevicesOptions): Pick<Identity, "deviceCode" | "enrollDevice"> {
  const { node, authorities, issued, codes, lifetimeMs } = options;
  return {
    async deviceCode({ body }) {
      deviceName(node, body.name);
      const code = randomBytes(CODE_BYTES).toString("hex");
      codes.expect({ service: DEVICE, instance: body.name, secretSha256: sha256(code) });
      return { code: code.match(/.{5}/g)!.join("-"), expiresAtMs: options.wallMs() + CODE_MS };
    },
    async enrollDevice({ body }) {
      const name = nameOf(options, body);
      const { certPem, serial, notAfterMs } = await authorities.current.issue({
        csrPem: body.csrPem,
        name: deviceName(node, name),
        dns: [],
        ips: [],
        lifetimeMs,
        client: true,
        server: false,
      });
      issued.add({ name: `device/${name}`, instance: "", serial, notAfterMs });
      return { certPem, name, notAfterMs };
    },
  };
}

type Asked = Parameters<Identity["enrollDevice"]>[0]["body"];

/** Tells as whom a device is certified. IDENTITY_DEVICE_REFUSED. */
function nameOf({ node, codes, manufacturers }: DevicesOptions, { code, holder, again }: Asked): string {
  const [kind, text = ""] = holder?.name.split(/=(.*)/s) ?? [];
  if (holder?.authority === OWN) {
    const own = kind === "URI" ? parseDeviceName(text) : undefined;
    if (own?.node === node) return own.device;
    throw refused("the certificate is not a device's of this node");
  }
  if (again) throw refused("a certificate of this node is renewed with it, and with nothing else");
  if (holder && kind === "CN" && manufacturers.includes(holder.authority)) return text;
  if (!code) throw refused("neither a code nor a manufacturer's certificate came with the request");
  try {
    codes.take({ service: DEVICE, instance: code.name, secret: code.code.toLowerCase().replaceAll("-", "") });
  } catch (cause) {
    throw fail(IDENTITY_DEVICE_REFUSED, "the code is not the one of this device, or was used, or has ended", {
      cause: asFailure(cause),
    });
  }
  return code.name;
}

const refused = (why: string) => fail(IDENTITY_DEVICE_REFUSED, why);
const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
