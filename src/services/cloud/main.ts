/** Wires the cloud: its own authority, its own certificate, its store. */
import { existsSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { type Static, Type } from "typebox";
import { type Authority, createAuthority, loadAuthority } from "../../kernel/identity/authority.ts";
import { spiffeName } from "../../kernel/identity/names.ts";
import { keepRenewed } from "../../kernel/identity/renewal.ts";
import { makeKeyAndRequest } from "../../kernel/identity/request.ts";
import { TlsIdentity } from "../../kernel/identity/tls.ts";
import { openBytes, sealBytes } from "../../kernel/seal/bytes.ts";
import { replaceFile } from "../../kernel/seal/durable-file.ts";
import { type Context, defineService, field } from "../../kernel/service.ts";
import { cloud } from "./api.ts";
import { makeCloud } from "./service.ts";
import { CloudStore } from "./store.ts";

const DATABASE = "cloud.db";
const DAY_MS = 86_400_000;
const SERVER_LIFETIME_MS = 30 * DAY_MS;

const config = Type.Object(
  {
    name: field(Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,62}$" }), {
      description: "The cloud's name, in its certificates.",
      default: "cloud",
      example: "cloud-eu",
    }),
    nodeCertificateDays: field(Type.Integer({ minimum: 1, maximum: 399 }), {
      description:
        "Days that a node's certificate is valid; it renews at a third, and must enroll again after being away for longer.",
      default: 365,
      example: 90,
    }),
  },
  { additionalProperties: false },
);

export const main = defineService({
  contract: cloud,
  config,
  needs: [],
  stateful: true,
  ownIdentity: true,
  async start(context) {
    const { clock, log } = context;
    const authority = await openAuthority(context);
    const store = new CloudStore({ path: join(context.directory, DATABASE), key: context.keys("database").all(), log });
    const identity = await certify(context, authority);
    const { name, nodeCertificateDays } = context.config;
    return {
      identity,
      // Nodes send again what they still have; what is in neither place is told by their own status.
      health: () =>
        store.replaced
          ? {
              state: "warning",
              reason: `its damaged database was moved to ${store.replaced.movedTo}; a fresh one began`,
            }
          : { state: "passing" },
      service: makeCloud({ store, authority, name, certificateLifetimeMs: nodeCertificateDays * DAY_MS, clock, log }),
      async stop() {
        store.close();
        identity.close();
      },
    };
  },
});

type CloudContext = Context<Static<typeof config>>;

/** Loads the authority, or makes it at the first start; its key is sealed with the store's. */
async function openAuthority(context: CloudContext): Promise<Authority> {
  const {
    clock,
    config: { name },
    directory,
    log,
  } = context;
  const key = context.key("authority");
  const path = join(directory, "authority.sealed");
  const aad = "cloud authority";
  const sealed = readSealed(path);
  if (sealed) {
    const { certPem, keyPkcs8 } = JSON.parse(openBytes(key, sealed, aad).toString()) as {
      certPem: string;
      keyPkcs8: string;
    };
    return loadAuthority({ certPem, keyPkcs8: Buffer.from(keyPkcs8, "base64"), clock });
  }
  // Nodes were certified by one that is gone: none of them can come back by itself.
  if (existsSync(join(directory, DATABASE)))
    log.error({ path }, "the cloud's authority is gone: a new one is made, and every node must be enrolled again");
  const authority = await createAuthority({ node: name, clock });
  const text = JSON.stringify({
    certPem: authority.certPem,
    keyPkcs8: (await authority.exportKey()).toString("base64"),
  });
  await replaceFile(path, sealBytes(key, Buffer.from(text), aad));
  return authority;
}

function readSealed(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return undefined;
    throw error;
  }
}

async function certify(
  { clock, config: { name }, log, stopping }: CloudContext,
  authority: Authority,
): Promise<TlsIdentity> {
  const identity = new TlsIdentity({ node: name, service: "cloud", caPem: authority.certPem, clock });
  const renew = async () => {
    const { csrPem, keyPem } = await makeKeyAndRequest(spiffeName(name, "cloud"));
    const { certPem } = await authority.issue({
      csrPem,
      name: spiffeName(name, "cloud"),
      dns: ["localhost", hostname()],
      ips: ["127.0.0.1", "::1"],
      lifetimeMs: SERVER_LIFETIME_MS,
      client: false,
      server: true,
    });
    return { certPem, keyPem };
  };
  identity.update(await renew());
  keepRenewed({ identity, renew, lifetimeMs: SERVER_LIFETIME_MS, clock, signal: stopping, log });
  return identity;
}
