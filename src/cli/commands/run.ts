/** `holdfast run`: lets a service of one's own join the running node, with the rights that the options name, until Ctrl-C. */
import { resolve } from "node:path";
import { checkConfig } from "../../kernel/config.ts";
import { readYamlFile } from "../../kernel/config-file.ts";
import { fail } from "../../kernel/error.ts";
import { GuestSpec } from "../../node/guests/spec.ts";
import { readArguments, wholeNumber } from "../arguments.ts";
import type { Command } from "../command.ts";
import { CLI_USAGE, EXIT } from "../exit.ts";
import { localNode } from "../local-node.ts";
import { logLine } from "../log-line.ts";
import { openPage, type Page } from "../page.ts";

const help = `Usage: holdfast run FILE [options]

Runs a service of your own (docs/third-party.md) in the node that runs here: a
file of TypeScript or JavaScript, or a folder with main.ts or main.js in it. It
is confined as the node's own services are, and may do what the options say and
nothing else. Its log is shown until it ends: with Ctrl-C, with this terminal,
or with the node. A service that is to stay is named in the config, under
node.services.

  --needs A,B      services that it may call ('bus:edgex/events/#': and hear
                   these topics); identity, core-keeper and trace are given
  --name NAME      how it is called (default: as its contract says)
  --listen DOOR=HOST:PORT
                   open one of its doors; may be repeated
  --connect P,Q    TCP ports outside of the node that it may connect to
  --resolve        let it resolve host names
  --read PATH      let it read a file or folder; may be repeated
  --secret NAME    give it a secret of 'holdfast secret'; may be repeated
  --memory MIB     memory of its own, in MiB (default: 256)
  --config FILE    its config, YAML
  --state DIR      the node's state directory

Example:
  holdfast run ./greeter --needs bus --memory 64`;

const MIB = 1024 * 1024;
const RUN_MS_MAX = Number.POSITIVE_INFINITY;
const END_MS_MAX = 15_000;

const OPTIONS = {
  needs: { type: "string" },
  name: { type: "string" },
  listen: { type: "string", multiple: true },
  connect: { type: "string" },
  resolve: { type: "boolean" },
  read: { type: "string", multiple: true },
  secret: { type: "string", multiple: true },
  memory: { type: "string" },
  config: { type: "string" },
  state: { type: "string" },
} as const;

export const command: Command = {
  name: "run",
  summary: "Run a service of your own in the node, with the rights you name.",
  help,
  async run(args) {
    const { values, positionals } = readArguments(args, OPTIONS, ["FILE"]);
    const spec = specOf(positionals[0], values);
    const { client, call, close } = localNode(values.state);
    const page = openPage();
    let name = values.name;
    let interrupted = false;
    const end = (): void => {
      interrupted = true;
      if (name !== undefined) client.end({ body: { name } }, call(END_MS_MAX)).catch(() => process.exit(EXIT.failed));
      else process.exit(EXIT.failed);
    };
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, end);
    try {
      for await (const told of client.run({ spec, ...(name === undefined ? {} : { name }) }, call(RUN_MS_MAX))) {
        if (told.event === "named") name = told.text;
        tell(page, name ?? "", told);
      }
    } finally {
      close();
    }
    return interrupted ? EXIT.fine : EXIT.failed;
  },
};

function tell(page: Page, name: string, { event, text, reason }: { event: string; text: string; reason?: string }) {
  if (event === "line") page.line(logLine(page, text, Date.now()));
  else if (event === "named") page.line(page.style("bold", `${name} joins the node; Ctrl-C ends it`));
  else page.line(`${page.style("bold", name)} is ${text}${reason === undefined ? "" : `: ${reason}`}`);
}

type Values = ReturnType<typeof readArguments<typeof OPTIONS>>["values"];

function specOf(file: string, values: Values): GuestSpec {
  const list = (text: string | undefined) => (text ?? "").split(",").flatMap((part) => part.trim() || []);
  const memory = wholeNumber(values.memory, { name: "--memory", min: 32, max: 65_536, default: 256 });
  const given = {
    file: resolve(file),
    needs: list(values.needs),
    doors: Object.fromEntries((values.listen ?? []).map(doorOf)),
    connectPorts: list(values.connect).map((port) =>
      wholeNumber(port, { name: "--connect", min: 1, max: 65_535, default: 0 }),
    ),
    names: values.resolve ?? false,
    reads: (values.read ?? []).map((path) => resolve(path)),
    secrets: values.secret ?? [],
    memoryBytesMax: memory * MIB,
    config: values.config === undefined ? {} : readYamlFile(values.config),
  };
  return checkConfig(GuestSpec, given, "", "run") as GuestSpec;
}

/** Reads `http=127.0.0.1:9443` or `http=9443`. CLI_USAGE. */
function doorOf(text: string): [door: string, at: { host?: string; port: number }] {
  const [, door, host, port] = /^([a-z0-9-]{1,63})=(?:(.+):)?(\d{1,5})$/.exec(text) ?? [];
  if (door === undefined) throw fail(CLI_USAGE, `--listen takes DOOR=HOST:PORT or DOOR=PORT, not '${text}'`);
  return [door, { ...(host === undefined ? {} : { host: host.replace(/^\[|\]$/g, "") }), port: Number(port) }];
}
