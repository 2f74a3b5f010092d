/** `holdfast token`: makes a token for a person or a program. */
import { userInfo } from "node:os";
import { fail } from "../../kernel/error.ts";
import { ROLES, type Role } from "../../services/identity/api.ts";
import { COMMON, COMMON_HELP, durationOf, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { CLI_USAGE, EXIT } from "../exit.ts";
import { localNode } from "../local-node.ts";
import { openHints, openPage, type Page } from "../page.ts";
import { moment } from "../units.ts";

const LIFETIME_MS_MAX = 365 * 86_400_000;
const TIMEOUT_MS = 5_000;

const help = `Usage: holdfast token [options]

Prints a token (JWT) for the gateway, and nothing else, on standard output. A
token is good until it ends: keep it like a password, and let it end soon.

  --role ROLE      viewer (reads), operator (commands devices, too) or admin
                   (all); default viewer
  --for TIME       how long it is good: 30m, 8h, 7d (default 8h, at most 365d)
  --subject NAME   whose it is, for the logs (default: your user name)
${COMMON_HELP}

With --json: {"token", "expiresAtMs", "gatewayUrl", "caPem", "role", "subject"}.

Examples:
  TOKEN=$(npx holdfast token)
  npx holdfast ca > holdfast-ca.pem
  curl --cacert holdfast-ca.pem -H "Authorization: Bearer $TOKEN" \\
    https://127.0.0.1:8443/core-data/api/v3/reading/all`;

const OPTIONS = { ...COMMON, role: { type: "string" }, for: { type: "string" }, subject: { type: "string" } } as const;

export const command: Command = {
  name: "token",
  summary: "Make a token for the gateway.",
  help,
  async run(args) {
    const { values } = readArguments(args, OPTIONS);
    const role = values.role ?? "viewer";
    if (!isRole(role)) throw fail(CLI_USAGE, `--role takes ${Object.keys(ROLES).join(", ")}, not '${role}'`);
    const lifetimeMs = durationOf(values.for ?? "8h", "--for");
    if (lifetimeMs < 1_000 || lifetimeMs > LIFETIME_MS_MAX)
      throw fail(CLI_USAGE, "--for takes at least 1s and at most 365d");
    const subject = values.subject ?? userName();
    if (subject === "" || subject.length > 200)
      throw fail(CLI_USAGE, "--subject takes a name of at most 200 characters");
    const node = localNode(values.state);
    try {
      const body = { subject, role, lifetimeS: Math.round(lifetimeMs / 1_000) };
      const issued = await node.client.token({ body }, node.call(TIMEOUT_MS));
      if (values.json) {
        openPage().json({ ...issued, role, subject });
        return EXIT.fine;
      }
      const hints = openHints();
      if (hints) hintAt(hints, { ...issued, role, subject });
      openPage().line(issued.token);
    } finally {
      node.close();
    }
    return EXIT.fine;
  },
};

const isRole = (text: string): text is Role => Object.hasOwn(ROLES, text);

/** Tells the person's name; a uid without an entry in the user database has none. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? "unknown"}`;
  }
}

function hintAt(
  hints: Page,
  { role, subject, expiresAtMs, gatewayUrl }: { role: Role; subject: string; expiresAtMs: number; gatewayUrl: string },
): void {
  const scopes = ROLES[role].join(" ");
  hints.line(
    hints.style("dim", `${role} '${subject}', until ${moment(expiresAtMs)}: ${scopes === "*" ? "everything" : scopes}`),
  );
  if (gatewayUrl === "") return;
  hints.line(hints.style("dim", "  npx holdfast ca > holdfast-ca.pem"));
  hints.line(
    hints.style(
      "dim",
      `  curl --cacert holdfast-ca.pem -H "Authorization: Bearer $(npx holdfast token)" \\\n    '${gatewayUrl}/core-data/api/v3/reading/all?limit=5'`,
    ),
  );
}
