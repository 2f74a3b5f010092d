/** DNS as software knows it that knows nothing else: c-ares (node:dns) asks, and raw packets that nobody should send. */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { Resolver } from "node:dns/promises";
import { once } from "node:events";
import { connect } from "node:net";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { instanceOf, quiet } from "../../../../test/houses/registry.ts";
import type { Instance, Listed } from "../api.ts";
import { readQuery, TYPE, writeName } from "./message.ts";
import { DnsServer } from "./server.ts";
import { answerOf } from "./zone.ts";

const ZONE = "holdfast.internal";
const LOOPBACK = { host: "127.0.0.1", port: 0 };

const one = (service: string, instance: string, more: Partial<Instance> = {}): Instance => ({
  ...instanceOf(service, instance),
  ...more,
});

const INSTANCES: Instance[] = [
  one("core-data", "a", { port: 7_001, weight: 300, edgexPort: 59_880 }),
  one("core-data", "b", { port: 7_002, host: "127.0.0.2", state: "warning" }),
  one("core-data", "c", { port: 7_003, state: "critical" }),
  one("core-data", "d", { port: 7_004, maintenance: true }),
  one("v6", "e", { host: "fe80::1:2" }),
  one("both", "f", { host: "::ffff:10.0.0.1" }),
  one("both", "g", { host: "10.0.0.2" }),
  one("device-x", "~device-x", { host: "localhost", check: "http" }),
  one("elsewhere", "~elsewhere", { host: "pump.example", check: "tcp" }),
  one("dead", "h", { state: "critical" }),
  ...Array.from({ length: 60 }, (_, n) => one("many", `m${n}`, { host: `10.1.0.${n}`, port: 8_000 + n })),
];

const listed = (service?: string): Listed => ({
  revision: 77,
  instances: INSTANCES.filter((i) => service === undefined || i.service === service),
});

async function serving(t: TestContext) {
  const server = new DnsServer({ zone: ZONE, listed, log: quiet });
  const ports = await server.listen({ tcp: LOOPBACK, udp: LOOPBACK });
  t.after(() => server.close());
  return ports;
}

/** c-ares asks again over TCP at the same port where an answer was cut. */
async function asking(t: TestContext): Promise<Resolver> {
  for (;;) {
    const server = new DnsServer({ zone: ZONE, listed, log: quiet });
    const { tcp } = await server.listen({ tcp: LOOPBACK, udp: LOOPBACK });
    await server.close();
    const both = new DnsServer({ zone: ZONE, listed, log: quiet });
    const at = { host: "127.0.0.1", port: tcp };
    const ports = await both.listen({ tcp: at, udp: at }).catch(() => undefined);
    if (!ports) continue;
    t.after(() => both.close());
    const resolver = new Resolver({ timeout: 2_000, tries: 1 });
    resolver.setServers([`127.0.0.1:${ports.udp}`]);
    return resolver;
  }
}

test("a service's addresses are those of its best instances, in any case of letters", async (t) => {
  const resolver = await asking(t);
  assert.deepEqual(await resolver.resolve4(`core-data.${ZONE}`), ["127.0.0.1"]);
  assert.deepEqual(await resolver.resolve4(`CORE-Data.${ZONE.toUpperCase()}`), ["127.0.0.1"]);
  assert.deepEqual(await resolver.resolve6(`v6.${ZONE}`), ["fe80::1:2"]);
  assert.deepEqual(await resolver.resolve6(`both.${ZONE}`), ["::ffff:10.0.0.1"]);
  assert.deepEqual(await resolver.resolve4(`both.${ZONE}`), ["10.0.0.2"]);
  assert.deepEqual(await resolver.resolve4(`device-x.${ZONE}`), ["127.0.0.1"]);
});

test("SRV names ports, with priority by state and weight; EdgeX's software finds the ports that it can speak to", async (t) => {
  const resolver = await asking(t);
  const expected = [
    { type: "SRV", name: `7f000001.addr.${ZONE}`, port: 7_001, priority: 0, weight: 300 },
    { type: "SRV", name: `7f000002.addr.${ZONE}`, port: 7_002, priority: 1, weight: 100 },
  ];
  const sorted = (found: { port: number }[]) => found.sort((a, b) => a.port - b.port);
  assert.deepEqual(sorted(await resolver.resolveSrv(`_core-data._tcp.${ZONE}`)), expected);
  assert.deepEqual(sorted(await resolver.resolveSrv(`core-data.${ZONE}`)), expected);
  assert.deepEqual(await resolver.resolveSrv(`_core-data._edgex.${ZONE}`), [{ ...expected[0], port: 59_880 }]);
  assert.deepEqual(await resolver.resolve4(`7f000002.addr.${ZONE}`), ["127.0.0.2"]);
  const [elsewhere] = await resolver.resolveSrv(`_elsewhere._tcp.${ZONE}`);
  assert.equal(elsewhere.name, "pump.example");
});

test("what is not there, not of this kind, or not of this zone is said so", async (t) => {
  const resolver = await asking(t);
  const failing = (code: string) => (error: unknown) => (error as { code?: string }).code === code;
  await assert.rejects(resolver.resolve4(`nobody.${ZONE}`), failing("ENOTFOUND"));
  await assert.rejects(resolver.resolve4(`dead.${ZONE}`), failing("ENOTFOUND"));
  await assert.rejects(resolver.resolve4(`a.b.c.${ZONE}`), failing("ENOTFOUND"));
  await assert.rejects(resolver.resolve6(`core-data.${ZONE}`), failing("ENODATA"));
  await assert.rejects(resolver.resolve4("example.com"), failing("EREFUSED"));
  await assert.rejects(resolver.resolve4(`not${ZONE}`), failing("EREFUSED"));
  assert.equal((await resolver.resolveSoa(ZONE)).serial, 77);
});

test("an answer too large for UDP is cut, and whole over TCP", async (t) => {
  const resolver = await asking(t);
  const found = await resolver.resolveSrv(`many.${ZONE}`);
  assert.equal(found.length, 60);
});

const query = (name: string, type: number, tail = Buffer.alloc(0)): Buffer => {
  const header = Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, tail.length > 0 ? 1 : 0]);
  return Buffer.concat([header, writeName(name), Buffer.of(0, type, 0, 1), tail]);
};

test("UDP answers stay within 512 bytes, and within what EDNS says; questions on one TCP connection are answered in order", async (t) => {
  const { udp, tcp } = await serving(t);
  const socket = createSocket("udp4");
  t.after(() => socket.close());
  const ask = async (packet: Buffer): Promise<Buffer> => {
    socket.send(packet, udp, "127.0.0.1");
    return ((await once(socket, "message")) as [Buffer])[0];
  };
  const cut = await ask(query(`many.${ZONE}`, TYPE.srv));
  assert.ok(cut.length <= 512);
  assert.equal(cut.readUInt16BE(2) & 0x0200, 0x0200, "TC");
  const large = Buffer.from([0, 0, TYPE.opt, 0x10, 0, 0, 0, 0, 0, 0, 0]);
  const some = await ask(query(`many.${ZONE}`, TYPE.a, large));
  assert.ok(some.length > 512 && some.length <= 1_232);
  assert.equal(some.readUInt16BE(6), 60);
  const stream = connect(tcp, "127.0.0.1");
  t.after(() => stream.destroy());
  const framed = [`v6.${ZONE}`, `core-data.${ZONE}`].map((name) => {
    const packet = query(name, TYPE.soa);
    return Buffer.concat([Buffer.of(0, packet.length), packet]);
  });
  const bytes = Buffer.concat(framed);
  stream.write(bytes.subarray(0, 7));
  stream.write(bytes.subarray(7));
  let got = Buffer.alloc(0);
  while (got.toString("latin1").split("hostmaster").length < 3)
    got = Buffer.concat([got, ((await once(stream, "data")) as [Buffer])[0]]);
  assert.ok(got.indexOf("v6") < got.indexOf("core-data"));
});

test("no packet does harm: garbage is answered with a code, or not at all", async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
      const read = readQuery(Buffer.from(bytes));
      if (read && "name" in read) answerOf(read, ZONE, listed);
    }),
    { seed: 6, numRuns: 5_000 },
  );
  const valid = query(`core-data.${ZONE}`, TYPE.srv);
  for (let length = 0; length < valid.length; length++) {
    const read = readQuery(valid.subarray(0, length));
    assert.ok(read === undefined || "rcode" in read, `${length} bytes of ${valid.length}`);
  }
  const answer = Buffer.from(valid);
  answer[2] |= 0x80;
  assert.equal(readQuery(answer), undefined, "an answer is not answered: two servers would never end");
  const pointer = Buffer.concat([valid.subarray(0, 12), Buffer.of(0xc0, 12, 0, 1, 0, 1)]);
  assert.deepEqual(readQuery(pointer), { id: 0x1234, rcode: 1 });
  const { udp } = await serving(t);
  const socket = createSocket("udp4");
  t.after(() => socket.close());
  socket.send(Buffer.from("garbage"), udp, "127.0.0.1");
  socket.send(valid, udp, "127.0.0.1");
  const [got] = (await once(socket, "message")) as [Buffer];
  assert.equal(got.readUInt16BE(6), 2);
});
