/**
 * Power: the supervisor is killed, files are damaged at rest as a power cut or a dying disk damages them. Each time the node
 * starts by itself, says what it lost and where, keeps the rest, and readings flow to the cloud again.
 */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { socketClient } from "../src/cli/local-node.ts";
import { cloud as cloudContract } from "../src/services/cloud/api.ts";
import { type Ask, gatewayDoor } from "./houses/ask.ts";
import { isAlive } from "./houses/node/rig.ts";
import { Whole } from "./houses/whole.ts";

/** Segments of an eighth of this: a test has several of them soon. */
const BUS_BYTES = 2 * 1024 * 1024;
const house = new Whole({
  args: ["--compact"],
  config: `device-host: { deviceName: box, interval: 500ms }\nbus: { sizeBytesMax: ${BUS_BYTES} }\n`,
});
let ask: Ask;
/** Devices whose one event was acknowledged, in order. */
const acknowledged: string[] = [];

before(async () => {
  await house.start();
  ask = await gatewayDoor(house);
});
after(() => house.remove());

/** Adds events of so many devices, one each, large enough to fill segments. */
async function report(devices: number): Promise<string[]> {
  const added: string[] = [];
  for (let i = 0; i < devices; i++) {
    const deviceName = `d${acknowledged.length}`;
    const origin = BigInt(Date.now()) * 1_000_000n;
    const names = { deviceName, profileName: "p" };
    const value = randomBytes(20_000).toString("base64");
    const reading = { id: randomUUID(), origin, ...names, resourceName: "r", valueType: "String", value };
    const event = { apiVersion: "v3", id: randomUUID(), ...names, sourceName: "s", origin, readings: [reading] };
    const path = `/core-data/api/v3/event/device-power/p/${deviceName}/s`;
    const answer = await ask("POST", path, { body: { apiVersion: "v3", event } });
    assert.equal(answer.status, 201, answer.text);
    acknowledged.push(deviceName);
    added.push(deviceName);
  }
  return added;
}

const file = (...parts: string[]): string => join(house.state, ...parts);
const segments = (...journal: string[]): string[] =>
  readdirSync(file(...journal))
    .filter((name) => name.endsWith(".seg"))
    .toSorted()
    .map((name) => file(...journal, name));

/** Turns bits over, as a dying disk does. */
function flip(path: string, at: number, count: number): void {
  const bytes = readFileSync(path);
  for (let i = at; i < Math.min(bytes.length, at + count); i++) bytes[i] ^= 0x5a;
  writeFileSync(path, bytes);
}

/** Cuts the power, damages files, starts again; answers when readings flow to the cloud. */
async function powerCut(damage: () => void): Promise<void> {
  const pids = [...(await house.pids()).values()];
  await house.killSupervisor();
  // At rest: nobody writes any more.
  await house.until(() => !pids.some(isAlive), "the services to follow their supervisor", 10_000);
  damage();
  await house.start();
  ask = await gatewayDoor(house);
  const fresh = await report(3);
  const cloud = cloudOf();
  try {
    const has = async (device: string): Promise<boolean> => {
      const { edges } = await cloud.client.edges({}, cloud.call(5_000));
      for (const { edge } of edges) {
        const input = { edge, device, offset: 0, limit: 1 };
        if ((await cloud.client.readings(input, cloud.call(5_000))).totalCount > 0) return true;
      }
      return false;
    };
    await house.until(
      async () => {
        for (const device of fresh) if (!(await has(device).catch(() => false))) return false;
        return true;
      },
      "what was reported after the start to be at the cloud",
      30_000,
    );
    await nothingTwice(cloud);
  } finally {
    cloud.close();
  }
}

/** Requires of the cloud that it has nothing twice and all in order, whatever was lost. */
async function nothingTwice({ client, call }: ReturnType<typeof cloudOf>): Promise<void> {
  const { edges } = await client.edges({}, call(5_000));
  for (const { edge } of edges) {
    const { publishers } = await client.audit({ edge }, call(5_000));
    for (const { name, epoch, duplicates, outOfOrder } of publishers)
      assert.deepEqual({ name, epoch, duplicates, outOfOrder }, { name, epoch, duplicates: 0, outOfOrder: 0 });
  }
}
const cloudOf = () => socketClient(cloudContract, "cloud.sock", house.state);

interface Loss {
  readonly reason: string;
  readonly firstPosition: number;
  readonly lastPosition?: number;
  readonly bytes: number;
}
interface Backlog {
  readonly bus: { readonly losses: Loss[]; readonly last: number };
  readonly pipeline: { readonly losses: Loss[] };
}

/** Losses of the bus that were told up to now. */
let told: Loss[] = [];
/** Where nobody can tell how many records were lost, it was the thousand bytes that a test filled with zeros: two of our events at most. */
const countOf = ({ firstPosition, lastPosition = firstPosition + 1 }: Loss): number => lastPosition - firstPosition + 1;
async function newLosses(): Promise<{ bus: Loss[]; outbox: Loss[] }> {
  const { bus, pipeline } = await house.json<Backlog>("backlog");
  const fresh = bus.losses.slice(told.length);
  assert.deepEqual(bus.losses.slice(0, told.length), told, "what was lost earlier is not forgotten");
  told = bus.losses;
  return { bus: fresh, outbox: pipeline.losses };
}

/** Requires that core-data has what was acknowledged, but for as many events as were said to be lost; answers those that are missing. */
async function missing(): Promise<string[]> {
  const lost = told.reduce((sum, loss) => sum + countOf(loss), 0);
  const count = async (device: string) =>
    (await ask("GET", `/core-data/api/v3/event/count/device/name/${device}`)).body["Count"];
  await house.until(async () => (await count(acknowledged.at(-1)!)) === 1, "core-data to be at the end", 30_000);
  const gone: string[] = [];
  for (const device of acknowledged) if ((await count(device)) !== 1) gone.push(device);
  assert.ok(gone.length <= lost, `${gone.length} events are missing and ${lost} were said to be lost: ${gone.join()}`);
  return gone;
}

async function logged(words: RegExp): Promise<void> {
  const lines = (await house.text("logs", "--lines", "2000", "--json")).split("\n").filter(Boolean);
  const messages = lines.map((line) => (JSON.parse(line) as { msg?: string }).msg ?? "");
  assert.ok(
    messages.some((message) => words.test(message)),
    `${words.source} in the log:\n${messages.slice(-30).join("\n")}`,
  );
}

async function reasonOf(service: string): Promise<string | undefined> {
  const { services } = await house.json<{ services: { service: string; state: string; reason?: string }[] }>("status");
  for (const each of services) assert.match(each.state, /^(passing|warning)$/, `${each.service}: ${each.reason}`);
  return services.find((each) => each.service === service)?.reason;
}

test("a power cut alone loses nothing, also where it damaged one copy of the node's own files", async () => {
  await report(12);
  await powerCut(() => {
    writeFileSync(file("node.json"), "");
    flip(file("node", "keyring.json"), 0, 100);
    flip(file("identity", "identity.sealed"), 100, 100);
    writeFileSync(file("pipeline", "stream"), "\0\0\0\0");
  });
  assert.deepEqual(await newLosses(), { bus: [], outbox: [] });
  assert.deepEqual(await missing(), []);
  assert.match(await house.text("backlog"), /nothing was lost/);
});

test("a torn last record of the bus and a flipped segment of the outbox are said, with their positions", async () => {
  await report(12);
  await powerCut(() => {
    const last = segments("bus", "journal").at(-1)!;
    truncateSync(last, statSync(last).size - 7);
    for (const segment of segments("pipeline", "outbox/normal")) flip(segment, 4_300, statSync(segment).size);
  });
  const { bus, outbox } = await newLosses();
  assert.equal(bus.length, 1, JSON.stringify(bus));
  assert.match(bus[0].reason, /torn/);
  assert.equal(bus[0].lastPosition, bus[0].firstPosition, "one record");
  assert.ok(outbox.length > 0 && outbox.every(({ firstPosition }) => firstPosition > 0), JSON.stringify(outbox));
  await missing();
  assert.match((await reasonOf("bus"))!, /torn/);
  assert.match((await reasonOf("pipeline"))!, /lost/);
  await logged(/the journal lost something: .*torn/);
  assert.match(
    await house.text("backlog"),
    new RegExp(`bus +positions ${bus[0].firstPosition} to ${bus[0].lastPosition}, `),
  );
});

test("a zero-filled tail of the bus's journal and a damaged state of it are said, and the rest is kept", async () => {
  await report(12);
  await powerCut(() => {
    const last = segments("bus", "journal").at(-1)!;
    const bytes = readFileSync(last);
    bytes.fill(0, bytes.length - 1_000);
    writeFileSync(last, Buffer.concat([bytes, Buffer.alloc(64 * 1024)]));
    flip(file("bus", "state"), 20, 50);
  });
  const { bus } = await newLosses();
  assert.equal(bus.length, 1, JSON.stringify(bus));
  assert.match(bus[0].reason, /torn or damaged/);
  await missing();
  await logged(/the bus's state is damaged and is made anew/);
});

test("a truncated and a deleted segment of the bus are said as gaps, with a damaged database of core-data", async () => {
  await report(12);
  await powerCut(() => {
    const all = segments("bus", "journal");
    assert.ok(all.length >= 4, `${all.length} segments`);
    truncateSync(all[0], statSync(all[0]).size >> 1);
    rmSync(all[2]);
    flip(file("core-data", "events.db"), 0, 4_096);
    rmSync(file("core-data", "events.db-wal"), { force: true });
  });
  const { bus } = await newLosses();
  assert.equal(bus.length, 2, JSON.stringify(bus));
  for (const words of [/segment is damaged or cut off/, /segment file\(s\) are missing/])
    assert.ok(
      bus.some(({ reason }) => words.test(reason)),
      JSON.stringify(bus),
    );
  const gone = await missing();
  assert.ok(gone.length > 2, "whole segments are gone");
  assert.match((await reasonOf("core-data"))!, /its damaged database was moved to/);
  await logged(/1 segment file\(s\) are missing/);
  await logged(/a damaged database was moved aside/);
});

test("a start after that says nothing new, and still what was lost", async () => {
  assert.ok(told.length > 2);
  await powerCut(() => undefined);
  assert.deepEqual((await newLosses()).bus, []);
  assert.match(await house.text("backlog"), /losses/);
});
