/** `holdfast keys`: what seals the node's keys, and all that can be done with them while it runs. */
import { readFileSync } from "node:fs";
import { fail } from "../../kernel/error.ts";
import { publicHalf, makeEscrowKey } from "../../kernel/seal/escrow.ts";
import { makeFile } from "../../kernel/seal/durable-file.ts";
import { openKeyRing } from "../../kernel/seal/keyring.ts";
import { PROVIDERS, type ProviderName } from "../../kernel/seal/provider.ts";
import { configFileOf, nodeSectionOf } from "../../node/config.ts";
import { ask, given, PASSPHRASE } from "../../node/keys/inputs.ts";
import { chosen, providerOf, ringDirectory } from "../../node/keys/open.ts";
import { openState, stateDirectoryOf } from "../../node/state.ts";
import { NODE_VERSION } from "../../node/version.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { CLI_USAGE, EXIT } from "../exit.ts";
import { type LocalNode, localNode } from "../local-node.ts";
import { labelled, openPage, type Page } from "../page.ts";
import { table } from "../table.ts";
import { moment } from "../units.ts";

const help = `Usage: holdfast keys [status|rotate|migrate|reseal|escrow] [options]

One key opens all others; a TPM, a PKCS#11 token, a passphrase or a key file
seals it. docs/keys.md tells what each is worth.

  status             what seals the keys, and how many each store has (default)
  rotate [STORE]     a new key-encryption key and new data keys, while the node
                     works; what is there stays readable
  migrate PROVIDER   have another provider seal them: tpm, pkcs11, passphrase,
                     key-file
  reseal             seal them anew, to the TPM's registers as they are now
    --open           to the TPM alone: before an update of the firmware
    --escrow-key F   open them with the escrow key when nothing else does; the
                     node must be stopped
  escrow --new FILE  make an escrow key: FILE opens the keys without the node's
                     TPM or passphrase, and belongs into a safe far from it
  escrow --key FILE  seal them for an escrow key that there is (X25519, PEM)
  escrow --remove    for nobody any more

  --config FILE      as of 'holdfast start'; for reseal --escrow-key
${COMMON_HELP}

Examples:
  holdfast keys escrow --new /media/usb/escrow.pem
  holdfast keys rotate
  holdfast keys migrate tpm`;

const TIMEOUT_MS = 60_000;
const OPTIONS = {
  ...COMMON,
  open: { type: "boolean" },
  "escrow-key": { type: "string" },
  new: { type: "string" },
  key: { type: "string" },
  remove: { type: "boolean" },
  config: { type: "string" },
} as const;
type Values = ReturnType<typeof readArguments<typeof OPTIONS>>["values"];

interface Asked {
  readonly values: Values;
  readonly page: Page;
  readonly word: string | undefined;
}

const ACTIONS: { readonly [name: string]: (node: LocalNode, asked: Asked) => Promise<void> } = {
  status: showStatus,
  rotate: rotate,
  migrate: migrate,
  reseal: reseal,
  escrow: escrow,
};

export const command: Command = {
  name: "keys",
  summary: "Show, rotate and seal anew the keys of everything on the disk.",
  help,
  async run(args) {
    const { values, positionals } = readArguments(args, OPTIONS, ["[ACTION]", "[NAME]"]);
    const [name = "status", word] = positionals;
    const action = ACTIONS[name];
    if (!action) throw fail(CLI_USAGE, `'${name}' is none of ${Object.keys(ACTIONS).join(", ")}`);
    const asked = { values, word, page: openPage() };
    if (name === "reseal" && values["escrow-key"] !== undefined) {
      await recover(values["escrow-key"], asked);
      return EXIT.fine;
    }
    const node = localNode(values.state);
    try {
      await action(node, asked);
    } finally {
      node.close();
    }
    return EXIT.fine;
  },
};

async function showStatus({ client, call }: LocalNode, { values, page }: Asked): Promise<void> {
  const keys = await client.keys({}, call(TIMEOUT_MS));
  if (values.json) return page.json(keys);
  page.lines(
    labelled(page, [
      ["sealed by", `the ${keys.provider} ${keys.promise}`],
      ["escrow", keys.escrow === undefined ? "none: without what seals them nobody can open them" : keys.escrow],
      ["made", keys.kekAtMs === 0 ? "before this was written down" : moment(keys.kekAtMs)],
    ]),
  );
  page.line();
  const columns = [{ title: "store" }, { title: "keys", right: true }, { title: "newest" }];
  const rows = keys.stores.map(({ name, keys: n, newestAtMs }) => [
    name,
    String(n),
    newestAtMs === 0 ? "" : moment(newestAtMs),
  ]);
  page.lines(table(page, columns, rows));
}

async function rotate({ client, call }: LocalNode, { values, page, word }: Asked): Promise<void> {
  const { rotated } = await client.rotateKeys({ body: word === undefined ? {} : { store: word } }, call(TIMEOUT_MS));
  if (values.json) return page.json({ rotated });
  const columns = [{ title: "store" }, { title: "waited", right: true }, { title: "", min: 20 }];
  const rows = rotated.map(({ store, pauseMs, error }) => [store, `${pauseMs.toFixed(1)} ms`, error ?? ""]);
  page.lines([
    ...table(page, columns, rows),
    "",
    "the key-encryption key is new, too; databases come under their new keys at the next start",
  ]);
}

async function migrate({ client, call }: LocalNode, { values, page, word }: Asked): Promise<void> {
  const provider = providerNamed(word);
  const passphrase = await passphraseFor(provider);
  const sealed = await client.migrateKeys({ body: { provider, ...passphrase } }, call(TIMEOUT_MS));
  tell(page, values, sealed);
}

async function reseal({ client, call }: LocalNode, { values, page }: Asked): Promise<void> {
  const { provider } = await client.keys({}, call(TIMEOUT_MS));
  const passphrase = await passphraseFor(provider);
  const sealed = await client.resealKeys({ body: { open: values.open ?? false, ...passphrase } }, call(TIMEOUT_MS));
  tell(page, values, sealed);
  if (values.open && !values.json)
    page.line(
      "until 'holdfast keys reseal' binds them to the TPM's registers again, another system on this machine opens them",
    );
}

async function escrow({ client, call }: LocalNode, { values, page }: Asked): Promise<void> {
  if ([values.new, values.key, values.remove].filter((way) => way !== undefined).length !== 1)
    throw fail(CLI_USAGE, "escrow takes one of --new FILE, --key FILE and --remove");
  const publicKey = await escrowKeyOf(values);
  const done = await client.escrowKeys(
    { body: publicKey === undefined ? {} : { publicKey: publicKey.toString("base64") } },
    call(TIMEOUT_MS),
  );
  if (values.json) return page.json(done);
  if (done.escrow === undefined) return page.line("no escrow key opens the keys any more");
  page.line(`the escrow key ${done.escrow} opens the keys, too`);
  if (values.new !== undefined)
    page.line(`${values.new} is its private half: put it into a safe, and leave no copy on this machine`);
}

async function escrowKeyOf(values: Values): Promise<Buffer | undefined> {
  if (values.key !== undefined) return publicHalf(readText(values.key));
  if (values.new === undefined) return undefined;
  const made = makeEscrowKey();
  if (!(await makeFile(values.new, Buffer.from(made.privatePem))))
    throw fail(CLI_USAGE, `${values.new} is there already, and is not overwritten`);
  return made.publicKey;
}

/** Opens the ring of a stopped node with its escrow key, and has it sealed as the config says. */
async function recover(keyFile: string, { values, page }: Asked): Promise<void> {
  const path = values.state ?? stateDirectoryOf(process.env);
  const state = openState({ path, version: NODE_VERSION });
  try {
    const file = configFileOf({ named: values.config, env: process.env, state: path });
    const node = nodeSectionOf(file);
    // What sealed them before may be what is broken: the config decides, else what a first start would choose.
    const provider = await providerOf(chosen(node, process.env, undefined), { node, env: process.env });
    const directory = ringDirectory(path);
    const ring = await openKeyRing({ directory, stateDirectory: path, provider, escrowKey: readText(keyFile) });
    tell(page, values, ring.provider);
    ring.zero();
  } finally {
    state.release();
  }
}

function tell(page: Page, values: Values, sealed: { name: string; promise: string }): void {
  if (values.json) page.json(sealed);
  else page.lines(labelled(page, [["sealed by", `the ${sealed.name} ${sealed.promise}`]]));
}

function providerNamed(word: string | undefined): ProviderName {
  const found = PROVIDERS.find((name) => name === word);
  if (!found) throw fail(CLI_USAGE, `migrate takes one of ${PROVIDERS.join(", ")}, not '${word ?? ""}'`);
  return found;
}

async function passphraseFor(provider: ProviderName): Promise<{ passphrase?: string }> {
  if (provider !== "passphrase") return {};
  const read = given(PASSPHRASE, process.env)?.toString("utf8");
  return { passphrase: read ?? (await ask(PASSPHRASE.what, PASSPHRASE.missing)) };
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw fail(CLI_USAGE, `${file} cannot be read (${(cause as NodeJS.ErrnoException).code})`, { cause });
  }
}
