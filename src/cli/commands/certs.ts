/** `holdfast certs`: the node's certificates and whom it believes; revoking one, and replacing the authority. */
import { identity } from "../../services/identity/api.ts";
import { COMMON, COMMON_HELP, durationOf, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { type Link, withLink } from "../link.ts";
import { openPage, type Page } from "../page.ts";
import { table } from "../table.ts";
import { plain } from "../text.ts";
import { ago, duration, moment } from "../units.ts";

const OVERLAP = "24h";

const help = `Usage: holdfast certs [show] [options]
       holdfast certs revoke SERVICE|SERIAL
       holdfast certs rotate-ca [--overlap TIME]

Shows whom the node believes and every certificate issued since its start, with
its age and its next renewal. 'revoke' ends one certificate, or all of a
service: its open connections are cut at once, and its process is started anew.
'rotate-ca' makes a new authority. All believe it at once, it issues after the
overlap, and the old one is dropped when its last certificates have ended: give
'holdfast ca' to who uses the gateway during the overlap.

  --overlap TIME   how long the old authority goes on (default ${OVERLAP})
${COMMON_HELP}

Examples:
  holdfast certs
  holdfast certs revoke device-mqtt
  holdfast certs rotate-ca --overlap 7d`;

export const command: Command = {
  name: "certs",
  summary: "Show certificates; revoke one, replace the authority.",
  help,
  async run(args) {
    const words = ["show", "revoke", "rotate-ca"];
    const [word, rest] = words.includes(args[0] ?? "") ? [args[0], args.slice(1)] : ["show", args];
    const options = { ...COMMON, overlap: { type: "string" } } as const;
    const { values, positionals } = readArguments(rest, options, word === "revoke" ? ["SERVICE|SERIAL"] : []);
    const overlapMs = durationOf(values.overlap ?? OVERLAP, "--overlap");
    const page = openPage();
    await withLink({ state: values.state, role: "admin" }, async (link) => {
      const client = link.service(identity);
      if (word === "revoke") {
        const done = await client.revoke({ body: { what: positionals[0] } }, link.call());
        return values.json ? page.json(done) : page.line(`'${plain(positionals[0])}' is revoked everywhere`);
      }
      if (word === "rotate-ca") {
        const made = await client.rotateAuthority({ body: { overlapMs } }, link.call());
        const said = `a new authority is believed by all services, and issues from ${moment(made.issuesFromMs)} on; SHA-256 ${made.fingerprint}`;
        return values.json ? page.json(made) : page.line(said);
      }
      const shown = await client.certificates({}, link.call());
      if (values.json) page.json(shown);
      else page.lines(certificateLines(page, shown, Date.now()));
    });
    return EXIT.fine;
  },
};

type Shown = Awaited<ReturnType<ReturnType<typeof clientOf>["certificates"]>>;
const clientOf = (link: Link) => link.service(identity);

const STATES = { current: "issues", next: "issues from", old: "believed until" } as const;

const COLUMNS = [
  { title: "NAME" },
  { title: "SERIAL" },
  { title: "ISSUED", drop: 1 },
  { title: "STATE" },
  { title: "RENEWAL", drop: 2 },
];

/** Writes what is believed, issued and revoked, for people. */
export function certificateLines(page: Page, shown: Shown, nowMs: number): string[] {
  const { authorities, lifetimeMs, issued, revoked } = shown;
  const lines = authorities.map(
    ({ fingerprint, state, untilMs }) =>
      `authority  ${fingerprint.slice(0, 16)}  ${STATES[state]}${untilMs === undefined ? "" : ` ${moment(untilMs)}`}`,
  );
  const rows = issued.map((one) => [
    plain(one.name),
    one.serial,
    ago(nowMs - one.issuedAtMs),
    one.revoked ? { text: "revoked", style: "red" as const } : `ends ${ago(nowMs - one.notAfterMs)}`,
    one.revoked ? "" : renewalOf(one, lifetimeMs, nowMs),
  ]);
  return [
    ...lines,
    ...(revoked.length > 0 ? [`revoked    ${revoked.map((r) => plain(r.service ?? r.serial ?? "")).join(", ")}`] : []),
    "",
    ...table(page, COLUMNS, rows),
  ];
}

/** Services renew at a third of the lifetime; a device when it likes. */
function renewalOf(one: Shown["issued"][number], lifetimeMs: number, nowMs: number): string {
  if (one.name.startsWith("device/")) return "its own";
  const leftMs = one.issuedAtMs + lifetimeMs / 3 - nowMs;
  return leftMs > 0 ? `in ${duration(leftMs)}` : "done";
}
