/** One entry: a machine beside the node finds the gateway and the doors that the config declares, and nothing else. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { Whole } from "./houses/whole.ts";
import { findCommand, need } from "./need.ts";

const run = promisify(execFile);
const skip = need("netns");
const ip = findCommand("ip") ?? "ip";
/** Of the node, and of the machine beside it, in networks that nobody else has here. */
const NODE = { name: `hf-node-${process.pid}`, addresses: ["10.213.7.1", "fd00:213::1"] } as const;
const BESIDE = { name: `hf-beside-${process.pid}`, addresses: ["10.213.7.2", "fd00:213::2"] } as const;
const LINK = "veth0";

const inside = (name: string) => [ip, "netns", "exec", name] as const;

async function makeNetwork(): Promise<void> {
  const all = [
    ...[NODE, BESIDE].map(({ name }) => ["netns", "add", name]),
    ["-n", NODE.name, "link", "add", LINK, "type", "veth", "peer", "name", LINK, "netns", BESIDE.name],
    ...[NODE, BESIDE].flatMap(({ name, addresses: [v4, v6] }) => [
      ["-n", name, "address", "add", `${v4}/24`, "dev", LINK],
      ["-n", name, "address", "add", `${v6}/64`, "dev", LINK, "nodad"],
      ["-n", name, "link", "set", LINK, "up"],
      ["-n", name, "link", "set", "lo", "up"],
    ]),
  ];
  for (const args of all) await run(ip, args);
}

const everywhere = { "gateway.https": { host: "::", port: 8_443 }, "bus.mqtts": { host: "0.0.0.0", port: 8_883 } };
const house = new Whole({ doors: everywhere, under: inside(NODE.name) });

before(async () => {
  if (skip !== false) return;
  await makeNetwork();
  await house.start();
});
after(async () => {
  await house.remove();
  if (skip !== false) return;
  for (const { name } of [NODE, BESIDE]) await run(ip, ["netns", "delete", name]).catch(() => undefined);
});

/** Those of `ports` that take a connection from the machine beside the node. */
async function found(address: string, ports: readonly number[]): Promise<number[]> {
  const [command, ...words] = inside(BESIDE.name);
  const child = join(import.meta.dirname, "houses/scan.child.ts");
  const { stdout } = await run(command, [...words, process.execPath, child, address, JSON.stringify(ports)]);
  return JSON.parse(stdout) as number[];
}

/** The node's sockets, as the kernel lists them. */
async function socketsOf(table: "tcp" | "tcp6" | "udp" | "udp6", state: string) {
  const [command, ...words] = inside(NODE.name);
  const { stdout } = await run(command, [...words, "cat", `/proc/net/${table}`]);
  const lines = stdout.split("\n").slice(1);
  return lines
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === state)
    .map((fields) => fields[1].split(":"))
    .map(([address, port]) => ({ address, port: Number.parseInt(port, 16) }));
}

const LISTENS = "0A";
const UNCONNECTED = "07";

test(
  "only the gateway and declared doors take a connection from another machine, of all ports that somebody listens on",
  { skip },
  async () => {
    const listening = [...(await socketsOf("tcp", LISTENS)), ...(await socketsOf("tcp6", LISTENS))].map(
      ({ port }) => port,
    );
    assert.ok(listening.length > 8, `the services listen, for each other: ${listening.length}`);
    // What nobody listens on the kernel refuses; the ports that scanners look at first are tried all the same.
    const ports = [...new Set([...Array.from({ length: 1_023 }, (_, i) => i + 1), ...listening])];
    assert.deepEqual(await found(NODE.addresses[0], ports), [8_443, 8_883]);
    assert.deepEqual(await found(NODE.addresses[1], ports), [8_443]);
  },
);

test("no socket for datagrams is open to another machine", { skip }, async () => {
  const loopback = ["0100007F", "00000000000000000000000001000000"];
  const open = [...(await socketsOf("udp", UNCONNECTED)), ...(await socketsOf("udp6", UNCONNECTED))];
  assert.deepEqual(
    open.filter(({ address }) => !loopback.includes(address)),
    [],
  );
});
