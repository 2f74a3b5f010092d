/** What the tests of destinations and their pace share. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Static, TSchema } from "typebox";
import { systemClock } from "../../../kernel/clock.ts";
import { checkConfig } from "../../../kernel/config.ts";
import { readNamedFiles } from "../../../kernel/config-reach.ts";
import { BlockBuilder } from "../../../kernel/events/blocks.ts";
import { encodeBlocks } from "../../../kernel/events/codec.ts";
import type { Extra, Series } from "../../../kernel/events/model.ts";
import { createAuthority } from "../../../kernel/identity/authority.ts";
import { spiffeName } from "../../../kernel/identity/names.ts";
import { makeKeyAndRequest } from "../../../kernel/identity/request.ts";
import { makeLog } from "../../../kernel/log.ts";
import { DestinationConfig } from "./config.ts";
import type { BatchToSend, Lane, Sender } from "./sender.ts";
import { makeSender, type ForeignConfig, type SenderWay } from "./senders.ts";

/** Fills in the defaults of a config, as the config file's reader does. */
export function defaultsOf<S extends TSchema>(schema: S, given: unknown): Static<S>;
export function defaultsOf(schema: TSchema, given: unknown): unknown {
  return checkConfig(schema, given, "test");
}

export const NODE = "node-1";
export const LIVE: Lane = { class: "normal", epoch: 5, kind: "live" };
export const never = new AbortController().signal;

/** Files of a server's certificate for 127.0.0.1, a client's, and the authority of both, in a directory. */
export async function makeTlsFiles(
  directory: string,
): Promise<Record<"ca" | "cert" | "key" | "clientCert" | "clientKey", string>> {
  const authority = await createAuthority({ node: "there", clock: systemClock });
  const issue = async (service: string) => {
    const name = spiffeName("there", service);
    const { csrPem, keyPem } = await makeKeyAndRequest(name);
    const use = { dns: ["localhost"], ips: ["127.0.0.1"], lifetimeMs: 86_400_000, client: true, server: true };
    return { keyPem, certPem: (await authority.issue({ csrPem, name, ...use })).certPem };
  };
  const [server, client] = [await issue("server"), await issue("client")];
  const write = (name: string, text: string) => {
    writeFileSync(join(directory, name), text, { mode: 0o644 });
    return join(directory, name);
  };
  return {
    ca: write("ca.pem", authority.certPem),
    cert: write("server.pem", server.certPem),
    key: write("server.key", server.keyPem),
    clientCert: write("client.pem", client.certPem),
    clientKey: write("client.key", client.keyPem),
  };
}

/** A new directory that others may enter (daemons drop their rights), removed when the test ends. */
export function temporary(t: { after(work: () => void): void }): string {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-destinations-"));
  chmodSync(directory, 0o755);
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A sender out of a config as it stands in the file; the files that it names are read. */
export async function senderOf(given: object, name = "there", way: SenderWay = {}): Promise<Sender> {
  const config = defaultsOf(DestinationConfig, given) as ForeignConfig;
  const secrets = readNamedFiles(DestinationConfig, config, name);
  const log = makeLog("test", { to: { write: () => undefined } });
  return makeSender({ name, node: NODE, config, way, secrets, clock: systemClock, log });
}

export const series = (deviceName: string): Series => ({
  deviceName,
  profileName: "Pump",
  sourceName: "All",
  resources: [
    { name: "Pressure", valueType: "Float64", units: "bar" },
    { name: "Count", valueType: "Uint64" },
  ],
});

export interface BatchOptions {
  readonly events?: number;
  readonly devices?: readonly string[];
  readonly extra?: Extra;
}

/** The batch of a sequence: events numbered on from 10 times it, in turn of the devices. */
export function batchOf(sequence: number, { events = 2, devices = ["a", "b"], extra }: BatchOptions = {}): BatchToSend {
  const builder = new BlockBuilder({ publisher: { name: "device-x", epoch: 7 } });
  const all = devices.map(series);
  for (let n = 0; n < events; n++) {
    const number = sequence * 10 + n;
    builder.add(
      all[n % all.length],
      number,
      1_700_000_000_000_000_001n + BigInt(number),
      [number + 0.5, BigInt(number)],
      extra,
    );
  }
  return { sequence, queuedNs: 1_700_000_000_000_000_000n, blocks: encodeBlocks(builder.blocks()) };
}
