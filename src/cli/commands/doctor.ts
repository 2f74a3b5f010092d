/** `holdfast doctor`: what this machine gives to the node and what it lacks, with what that costs and what to do. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../../kernel/error.ts";
import { cacheDirectoryOf, codeIn } from "../../node/code.ts";
import { configFileOf, keyFileOf, loadConfig, NodeConfig } from "../../node/config.ts";
import { checkConfig } from "../../kernel/config.ts";
import { confinementFacts } from "../../node/confine/facts.ts";
import { chosen } from "../../node/keys/open.ts";
import { allDoors, type Manifest } from "../../node/manifest.ts";
import { stateDirectoryOf } from "../../node/state.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import { type Command, packageRoot } from "../command.ts";
import type { Finding } from "../doctor/finding.ts";
import { diskFindings } from "../doctor/disk.ts";
import { configFinding, keyFinding, type Port, portFindings, stateFinding } from "../doctor/home.ts";
import {
  carriedNode,
  clockFindings,
  kernelFindings,
  lastWritten,
  memoryFinding,
  runtimeFinding,
} from "../doctor/machine.ts";
import { EXIT } from "../exit.ts";
import { localNode } from "../local-node.ts";
import { openPage, type Page, type Style } from "../page.ts";
import { plain, wrap } from "../text.ts";
import { count } from "../units.ts";

const TIMEOUT_MS = 3_000;

const help = `Usage: holdfast doctor [options]

Looks at this machine: what it gives to the node and what it lacks, each with
what that costs and what to do about it. It changes nothing, and needs no
running node.

  --config FILE    look at this config (default: as 'holdfast start' finds it)
  --all            show what is fine, too
${COMMON_HELP}

With --json: {"findings": [{"name", "state": "fine" | "lacks" | "stops", "says",
"costs", "todo"}]}.
The exit status is 1 where something stops the node.

Example:
  holdfast doctor --all`;

export const command: Command = {
  name: "doctor",
  summary: "Look at what this machine gives and lacks.",
  help,
  async run(args) {
    const { values } = readArguments(args, { ...COMMON, config: { type: "string" }, all: { type: "boolean" } });
    const findings = await checkUp({ state: values.state, config: values.config });
    const page = openPage();
    if (values.json) page.json({ findings });
    else page.lines(findingLines(page, findings, values.all ?? false));
    return findings.some(({ state }) => state === "stops") ? EXIT.failed : EXIT.fine;
  },
};

/** Examines all there is. */
async function checkUp(options: { state: string | undefined; config: string | undefined }): Promise<Finding[]> {
  const path = options.state ?? stateDirectoryOf(process.env);
  const manifests = manifestsHere();
  const file = configFileOf({ named: options.config, env: process.env, state: path });
  let node = checkConfig(NodeConfig, {}, "node") as NodeConfig;
  const config = configFinding(file, () => {
    if (manifests.length > 0) ({ node } = loadConfig(file, manifests));
  });
  const running = await isRunning(path);
  return [
    runtimeFinding(carriedNode(packageRoot())),
    ...kernelFindings(confinementFacts(node.uidBase)),
    memoryFinding(),
    ...clockFindings({ nowMs: Date.now(), writtenMs: lastWritten(path) }),
    stateFinding(path, running),
    ...diskFindings(path),
    keyFinding({
      statePath: path,
      keyFile: keyFileOf(node, process.env),
      provider: chosen(node, process.env, undefined),
      tpm: node.keys.tpm,
    }),
    config,
    // A running node holds its ports itself.
    ...(running ? [] : await portFindings(portsOf(manifests, node))),
  ];
}

/** What the services say of themselves, where the code was made already; before the first start there is nothing to read. */
function manifestsHere(): readonly Manifest[] {
  const places = [import.meta.dirname, join(cacheDirectoryOf(process.env), `of${packageRoot().replaceAll("/", "+")}`)];
  const place = places.find((at) => existsSync(join(at, "manifest.json")));
  return place === undefined ? [] : codeIn(place).manifest;
}

async function isRunning(path: string): Promise<boolean> {
  try {
    const node = localNode(path);
    await node.client.status({}, node.call(TIMEOUT_MS)).finally(() => node.close());
    return true;
  } catch (error) {
    if (error instanceof Failure) return false;
    throw error;
  }
}

const LOOPBACK = "127.0.0.1";

function portsOf(manifests: readonly Manifest[], node: NodeConfig): Port[] {
  return manifests.flatMap((manifest) =>
    doorsThatOpen(manifest, node).map((door): Port => {
      const key = `node.doors.${manifest.name}.${door.name}.port`;
      const { host = LOOPBACK, port = door.port } = node.doors[`${manifest.name}.${door.name}`] ?? {};
      return { key, host, port, ...(door.when === "open-edgex" ? { option: "--open-edgex" } : {}) };
    }),
  );
}

/** Over TCP; a door of UDP is refused at the start where its port is taken. */
const doorsThatOpen = (manifest: Manifest, node: NodeConfig) =>
  allDoors(manifest).filter(
    (door) => door.protocol !== "udp" && (door.when !== "configured" || `${manifest.name}.${door.name}` in node.doors),
  );

const MARKS: { readonly [state in Finding["state"]]: readonly [mark: string, style: Style] } = {
  fine: ["ok   ", "green"],
  lacks: ["lacks", "yellow"],
  stops: ["STOPS", "red"],
};

/** Lays out findings: what stops first, then what is lacking; what is fine by number, or one by one. */
export function findingLines(page: Page, findings: readonly Finding[], all: boolean): string[] {
  const of = (state: Finding["state"]) => findings.filter((finding) => finding.state === state);
  const wanted = [...of("stops"), ...of("lacks"), ...(all ? of("fine") : [])];
  const lines = wanted.flatMap(({ state, says, costs, todo }) => {
    const [mark, style] = MARKS[state];
    const indent = " ".repeat(mark.length + 2);
    const part = (text: string, worn?: Style) =>
      wrap(plain(text), page.width - indent.length).map(
        (line) => indent + (worn === undefined ? line : page.style(worn, line)),
      );
    const [first = "", ...more] = part(says, "bold");
    return [
      `${page.style(style, mark)}  ${first.slice(indent.length)}`,
      ...more,
      ...(costs === undefined ? [] : part(costs)),
      ...(todo === undefined ? [] : part(todo, "dim")),
    ];
  });
  const [stopping, lacking, good] = [of("stops").length, of("lacks").length, of("fine").length];
  const verdict =
    stopping > 0
      ? page.style("red", `${count(stopping, "thing stops", "things stop")} the node`)
      : page.style("green", "nothing stops the node");
  return [
    ...lines,
    ...(lines.length > 0 ? [""] : []),
    `${verdict}; ${count(lacking, "thing is", "things are")} lacking, ${good} fine${all || good === 0 ? "" : " (--all shows them)"}`,
  ];
}
