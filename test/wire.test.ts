/** Wire: what crosses loopback while the story runs is TLS, and nothing readable. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Whole } from "./houses/whole.ts";
import { findCommand, need } from "./need.ts";

const skip = need("tcpdump");
const house = new Whole({ config: "device-host: { deviceName: canary-wire-z5, interval: 500ms }\n" });
let capture: ChildProcess | undefined;
const file = join(house.directory, "loopback.pcap");

before(async () => {
  if (skip) return;
  capture = spawn(findCommand("tcpdump")!, ["-i", "lo", "-s", "0", "-U", "-w", file, "-Z", "root", "tcp"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  // It says so when it listens.
  await once(capture.stderr!, "data");
  await house.start();
  await house.text("readings");
  await house.text("read", "virtual-1", "Int8");
  await house.until(async () => {
    const { edges } = await house.json<{ edges: { readings: number }[] }>("cloud", "edges");
    return (edges[0]?.readings ?? 0) > 50;
  }, "some readings to be at the cloud");
});
after(async () => {
  capture?.kill("SIGINT");
  await house.remove();
});

interface Segment {
  readonly key: string;
  readonly ports: readonly [number, number];
  readonly payload: Buffer;
  /** The first of its direction: SYN. */
  readonly opens: boolean;
}

/** Openings and payloads of a capture of loopback (pcap, Ethernet frames of IPv4 or IPv6, TCP), in order. */
function* segmentsOf(bytes: Buffer): Generator<Segment> {
  for (let at = 24; at + 16 <= bytes.length;) {
    const size = bytes.readUInt32LE(at + 8);
    const frame = bytes.subarray(at + 16, at + 16 + size);
    at += 16 + size;
    const type = frame.readUInt16BE(12);
    const ip = frame.subarray(14);
    const headBytes = type === 0x0800 ? (ip[0] & 15) * 4 : 40;
    const total = type === 0x0800 ? ip.readUInt16BE(2) : 40 + ip.readUInt16BE(4);
    const tcp = ip.subarray(headBytes, total);
    if (tcp.length < 20) continue;
    const ports = [tcp.readUInt16BE(0), tcp.readUInt16BE(2)] as const;
    const payload = tcp.subarray((tcp[12] >> 4) * 4);
    const opens = (tcp[13] & 2) !== 0;
    if (opens || payload.length > 0) yield { key: ports.join(">"), ports, payload, opens };
  }
}

test(
  "every connection of the node begins with a TLS record, and no byte of telemetry is readable",
  { skip },
  async () => {
    // Ports of this node alone: what other programs of the machine say on loopback is theirs.
    const { services } = await house.json<{ services: { address?: string }[] }>("status");
    const own = new Set([
      house.gatewayPort,
      house.cloudPort,
      ...services.flatMap((s) => (s.address ? [Number(s.address.split(":").at(-1))] : [])),
    ]);
    capture!.kill("SIGINT");
    await once(capture!, "exit");
    const bytes = readFileSync(file);
    // The node came up while the capture ran: a connection that was not opened in it is another program's, on a port of before.
    const opened = new Set<string>();
    const begun = new Set<string>();
    let connections = 0;
    for (const { key, ports, payload, opens } of segmentsOf(bytes)) {
      if (!ports.some((port) => own.has(port))) continue;
      if (opens) opened.add(key);
      if (payload.length === 0 || !opened.has(key)) continue;
      for (const canary of ["canary-wire-z5", "MemoryAvailable", "apiVersion", "Bearer "])
        assert.ok(!payload.includes(canary), `'${canary}' on ${key}`);
      if (begun.has(key)) continue;
      begun.add(key);
      connections++;
      // RFC 8446 5.1: type handshake (22) or alert (21), legacy version 3.x.
      assert.ok(
        (payload[0] === 22 || payload[0] === 21) && payload[1] === 3,
        `${key} begins with ${payload.subarray(0, 8).toString("hex")}`,
      );
    }
    assert.ok(connections > 20, `${connections} directions of connections were seen`);
  },
);
