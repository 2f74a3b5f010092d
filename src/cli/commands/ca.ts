/** `holdfast ca`: prints the certificate of the node's authority. */
import { X509Certificate } from "node:crypto";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { localNode } from "../local-node.ts";
import { openHints, openPage } from "../page.ts";
import { moment } from "../units.ts";

const TIMEOUT_MS = 5_000;
/** RFC 5280 4.1.2.5: 99991231235959Z says that there is no end. */
const FOREVER_MS = Date.UTC(9999, 11, 31);

const help = `Usage: holdfast ca [options]

Prints the certificate (PEM) of the node's own authority, which every
certificate of the node is signed by. It is no secret. Programs that are given
it know the gateway from an impostor.

${COMMON_HELP}

With --json: {"caPem", "fingerprint256", "notAfterMs", "gatewayUrl"}.

Example:
  npx holdfast ca > holdfast-ca.pem
  curl --cacert holdfast-ca.pem https://127.0.0.1:8443/healthz`;

export const command: Command = {
  name: "ca",
  summary: "Print the certificate of the node's authority.",
  help,
  async run(args) {
    const { values } = readArguments(args, COMMON);
    const node = localNode(values.state);
    try {
      // The node tells its authority with a token; this one has ended before anybody could use it.
      const body = { subject: "cli ca", role: "viewer", lifetimeS: 1 } as const;
      const { caPem, gatewayUrl } = await node.client.token({ body }, node.call(TIMEOUT_MS));
      const { fingerprint256, validTo } = new X509Certificate(caPem);
      const notAfterMs = Date.parse(validTo);
      if (values.json) openPage().json({ caPem, fingerprint256, notAfterMs, gatewayUrl });
      else process.stdout.write(caPem.endsWith("\n") ? caPem : `${caPem}\n`);
      if (!values.json)
        openHints()?.line(
          `${notAfterMs >= FOREVER_MS ? "it does not end" : `until ${moment(notAfterMs)}`}; SHA-256 ${fingerprint256}`,
        );
    } finally {
      node.close();
    }
    return EXIT.fine;
  },
};
