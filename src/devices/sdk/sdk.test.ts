import assert from "node:assert/strict";
import { test } from "node:test";
import { Type } from "typebox";
import { callOf, edgeHouse, eventually, temporary } from "../../../test/houses/edge.ts";
import type { Device, DeviceProfile, DeviceResource } from "../../kernel/edgex.ts";
import { newRequestId } from "../../kernel/call.ts";
import type { Value } from "../../kernel/events/model.ts";
import { bus } from "../../services/bus/api.ts";
import { main as busMain } from "../../services/bus/main.ts";
import { coreData } from "../../services/core-data/api.ts";
import { main as dataMain } from "../../services/core-data/main.ts";
import { coreMetadata } from "../../services/core-metadata/api.ts";
import { main as metadataMain } from "../../services/core-metadata/main.ts";
import { deviceService } from "./api.ts";
import type { Driver } from "./driver.ts";
import { defineDevice } from "./main.ts";

type Test = Parameters<typeof edgeHouse>[0];
const NAME = "device-test";
const LIST = { offset: 0, limit: 1_024, numeric: false };
const FLAGS = { pushEvent: false, returnEvent: true, regexCmd: true };

const resource = (
  name: string,
  valueType: DeviceResource["properties"]["valueType"],
  more: Partial<DeviceResource["properties"]> = {},
): DeviceResource => ({
  name,
  properties: { valueType, readWrite: "RW", ...more },
});

const profile: DeviceProfile = {
  name: "Test",
  deviceResources: [
    resource("n", "Int16", { minimum: -100, maximum: 100 }),
    resource("t", "Float64", { scale: 0.1, offset: -40, units: "C" }),
    resource("s", "String"),
    resource("b", "Bool"),
    resource("o", "Object"),
    resource("big", "Uint64"),
    resource("ro", "Int32", { readWrite: "R" }),
    resource("wo", "Int32", { readWrite: "W" }),
    resource("mode", "Int8"),
    resource("raw", "Uint8", { mask: 0x0f, shift: 1 }),
    resource("sure", "Int8", { assertion: "7" }),
    resource("count", "Uint8", { scale: 10 }),
  ],
  deviceCommands: [
    {
      name: "both",
      readWrite: "RW",
      resourceOperations: [{ deviceResource: "n" }, { deviceResource: "s", defaultValue: "none" }],
    },
    {
      name: "state",
      readWrite: "RW",
      resourceOperations: [{ deviceResource: "mode", mappings: { "0": "off", "1": "on" } }],
    },
  ],
};

/** A driver whose devices are a map of values: what is written is read. */
class TestDriver implements Driver {
  readonly profiles = [profile];
  readonly devices: Device[] = [];
  readonly values = new Map<string, Value>();
  readonly told: string[] = [];
  reads = 0;
  fault: Error | undefined;

  async read(device: Device, resources: readonly DeviceResource[]): Promise<Value[]> {
    this.reads++;
    if (this.fault) throw this.fault;
    return resources.map((r) => this.values.get(`${device.name}/${r.name}`) ?? this.values.get(r.name));
  }

  async write(device: Device, values: readonly { resource: DeviceResource; value: Value }[]): Promise<void> {
    for (const { resource: r, value } of values) this.values.set(`${device.name}/${r.name}`, value);
  }

  validate(device: Device): void {
    if (!("test" in device.protocols)) throw new Error("no protocol 'test'");
  }

  changed(device: Device, how: string): void {
    this.told.push(`${how} ${device.name}`);
  }
}

const deviceOf = (name: string, change: Partial<Device> = {}): Device => ({
  name,
  adminState: "UNLOCKED",
  operatingState: "UP",
  serviceName: NAME,
  profileName: "Test",
  protocols: { test: {} },
  ...change,
});

async function start(t: Test, options: { directory?: string; devices?: Device[]; without?: readonly string[] } = {}) {
  const house = edgeHouse(t, options.directory ?? temporary(t));
  const driver = new TestDriver();
  driver.devices.push(...(options.devices ?? [deviceOf("d1")]));
  driver.values.set("n", 1);
  const main = defineDevice({
    name: NAME,
    config: Type.Object({}, { additionalProperties: false }),
    driver: () => driver,
  });
  if (!options.without?.includes("bus")) await house.start(busMain);
  if (!options.without?.includes("core-metadata")) await house.start(metadataMain);
  await house.start(dataMain);
  const local = await house.start(main);
  const metadata = house.connect(coreMetadata, "gateway");
  return {
    house,
    driver,
    main,
    local,
    metadata,
    data: house.connect(coreData, "gateway"),
    device: house.connect(deviceService(NAME), "core-command"),
    known: (name: string) => eventually(() => metadata.deviceByName({ name }, callOf())),
  };
}
type Started = Awaited<ReturnType<typeof start>>;

const readingsOf = async ({ data }: Started, name = "d1") =>
  (await data.readingsByDevice({ name, ...LIST }, callOf())).readings;
const failure = (code: string) => ({ code });

test("it makes itself, its profiles and its devices known, and knows what is changed in metadata", async (t) => {
  const house = await start(t);
  const { metadata, driver, device, known } = house;
  await known("d1");
  const { service } = await metadata.serviceByName({ name: NAME }, callOf());
  assert.equal(service.baseAddress, `https://${NAME}`);
  const added = await metadata.addDevices(
    {
      body: [{ device: deviceOf("d2") }, { device: deviceOf("d3", { protocols: {} }) }],
      bypassValidation: false,
      force: false,
    },
    callOf(),
  );
  assert.deepEqual(
    added?.map((i) => i.statusCode),
    [201, 500],
  );
  assert.match(added[1].message!, /no protocol 'test'/);
  driver.values.set("n", 5);
  await eventually(() => device.read({ deviceName: "d2", command: "n", ...FLAGS }, callOf()));
  await metadata.patchDevices(
    { body: [{ device: { name: "d2", adminState: "LOCKED" } }], bypassValidation: true },
    callOf(),
  );
  await eventually(() =>
    assert
      .rejects(device.read({ deviceName: "d2", command: "n", ...FLAGS }, callOf()), failure("DEVICE_LOCKED"))
      .then(() => true),
  );
  await metadata.patchDevices(
    { body: [{ device: { name: "d2", adminState: "UNLOCKED", operatingState: "DOWN" } }], bypassValidation: true },
    callOf(),
  );
  await eventually(() => driver.told.filter((line) => line === "update d2").length === 2);
  await assert.rejects(device.read({ deviceName: "d2", command: "n", ...FLAGS }, callOf()), failure("DEVICE_LOCKED"));
  await metadata.deleteDevice({ name: "d2" }, callOf());
  await eventually(() => driver.told.includes("delete d2"));
  await assert.rejects(device.read({ deviceName: "d2", command: "n", ...FLAGS }, callOf()), failure("DEVICE_UNKNOWN"));
  const shorter = { ...profile, deviceResources: profile.deviceResources!.filter((r) => r.name !== "b") };
  await metadata.updateProfiles({ body: [{ profile: shorter }] }, callOf());
  await eventually(() =>
    assert
      .rejects(device.read({ deviceName: "d1", command: "b", ...FLAGS }, callOf()), failure("DEVICE_COMMAND_UNKNOWN"))
      .then(() => true),
  );
});

test("a changed config reaches metadata, and what a person changed stays", async (t) => {
  const directory = temporary(t);
  const slow = deviceOf("d1", { autoEvents: [{ interval: "1h", sourceName: "n" }] });
  const first = await start(t, { directory, devices: [slow] });
  await first.known("d1");
  await first.metadata.patchDevices(
    { body: [{ device: { name: "d1", adminState: "LOCKED", labels: ["mine"] } }], bypassValidation: true },
    callOf(),
  );
  await first.house.stop();
  const second = await start(t, {
    directory,
    devices: [deviceOf("d1", { autoEvents: [{ interval: "2h", sourceName: "n" }] })],
  });
  const changed = await eventually(async () => {
    const { device } = await second.known("d1");
    return device.autoEvents?.[0].interval === "2h" && device;
  });
  assert.ok(changed && changed.adminState === "LOCKED" && changed.labels?.[0] === "mine");
  await second.metadata.patchDevices(
    { body: [{ device: { name: "d1", autoEvents: [{ interval: "3h", sourceName: "n" }] } }], bypassValidation: true },
    callOf(),
  );
  await second.house.stop();
  const third = await start(t, {
    directory,
    devices: [deviceOf("d1", { autoEvents: [{ interval: "2h", sourceName: "n" }] })],
  });
  await eventually(() => third.driver.told.length > 0);
  assert.equal((await third.known("d1")).device.autoEvents?.[0].interval, "3h");
});

test("a command reads what the profile says, transformed and mapped, and fails in EdgeX's words", async (t) => {
  const house = await start(t);
  const { driver, device } = house;
  const read = async (command: string) =>
    (await device.read({ deviceName: "d1", command, ...FLAGS }, callOf())).event!.readings.map(
      (r) => r.value ?? r.objectValue,
    );
  const give = (values: Record<string, Value>) =>
    Object.entries(values).forEach(([name, value]) => driver.values.set(name, value));
  give({ n: -5, t: 655, s: "hi", b: true, o: { a: 1n }, big: 2n ** 64n - 1n, mode: 1, raw: 0xff, sure: 7 });
  assert.deepEqual(await read("both"), ["-5", "hi"]);
  assert.deepEqual(await read("t"), ["2.55e+01"]);
  assert.deepEqual(await read("o"), [{ a: 1n }]);
  assert.deepEqual(await read("big"), ["18446744073709551615"]);
  assert.deepEqual(await read("state"), ["on"]);
  assert.deepEqual(await read("mode"), ["1"]);
  assert.deepEqual(await read("raw"), ["7"], "0xff & 0x0f, one to the right");
  assert.deepEqual(await read("sure"), ["7"]);
  give({ mode: 5, sure: 8, n: null, count: 26 });
  assert.deepEqual(await read("state"), ["5"], "what is not mapped stays what it is");
  assert.deepEqual(await read("n"), [null]);
  await assert.rejects(read("count"), failure("DEVICE_FAILED"), "260 is no Uint8");
  await assert.rejects(read("sure"), failure("DEVICE_FAILED"));
  await assert.rejects(read("ro"), failure("DEVICE_FAILED"), "no reading at all");
  give({ n: 40_000, b: "yes" });
  await assert.rejects(read("n"), failure("DEVICE_FAILED"));
  await assert.rejects(read("b"), failure("DEVICE_FAILED"));
  await assert.rejects(read("wo"), failure("DEVICE_NOT_ALLOWED"));
  for (const none of ["none", "__proto__", "constructor"])
    await assert.rejects(read(none), failure("DEVICE_COMMAND_UNKNOWN"));
  await assert.rejects(device.read({ deviceName: "d9", command: "n", ...FLAGS }, callOf()), failure("DEVICE_UNKNOWN"));
  driver.fault = new Error("the wire is cut");
  await assert.rejects(read("n"), { code: "DEVICE_FAILED", message: /the wire is cut/ });
});

test("a command writes within type and limits, as the device takes it", async (t) => {
  const { driver, device } = await start(t);
  const write = (command: string, body: Record<string, unknown>) =>
    device.write({ deviceName: "d1", command, body }, callOf());
  const written = (name: string) => driver.values.get(`d1/${name}`);
  await write("both", { n: "42", s: "x" });
  assert.deepEqual([written("n"), written("s")], [42, "x"]);
  await write("both", { n: -100 });
  assert.deepEqual([written("n"), written("s")], [-100, "none"], "numbers as such, and the default");
  await write("t", { t: "25.5" });
  assert.equal(written("t"), 655);
  await write("state", { mode: "off" });
  assert.equal(written("mode"), 0);
  await write("state", { mode: "1" });
  assert.equal(written("mode"), 1);
  await write("o", { o: { deep: [1] } });
  assert.deepEqual(written("o"), { deep: [1] });
  await write("b", { b: true });
  assert.equal(written("b"), true);
  await write("big", { big: "18446744073709551615" });
  assert.equal(written("big"), 2n ** 64n - 1n);
  for (const [command, body] of [
    ["n", { n: "101" }],
    ["n", { n: "1.5" }],
    ["n", { n: "" }],
    ["n", { n: null }],
    ["n", { n: {} }],
    ["n", {}],
    ["n", { n: "1", other: "2" }],
    ["both", { s: "x" }],
    ["big", { big: "18446744073709551616" }],
    ["big", { big: "-1" }],
    ["b", { b: "maybe" }],
    ["o", { o: "[" }],
    ["raw", { raw: "200" }],
  ] as const) {
    await assert.rejects(
      write(command, body),
      (error: { kind: string }) => error.kind === "invalid",
      JSON.stringify(body),
    );
  }
  for (const command of ["ro"]) await assert.rejects(write(command, { ro: 1 }), failure("DEVICE_NOT_ALLOWED"));
  await assert.rejects(write("none", { n: 1 }), failure("DEVICE_COMMAND_UNKNOWN"));
});

test("an event that a command pushes arrives with the request's id, and is found again by the id that was answered", async (t) => {
  const house = await start(t);
  const { device, data } = house;
  const requestId = newRequestId();
  const { event } = await device.read({ deviceName: "d1", command: "n", ...FLAGS, pushEvent: true }, callOf(requestId));
  const found = await eventually(() => data.eventById({ id: event!.id }, callOf()));
  assert.deepEqual(found.event, event);
  const byReading = await data.eventById({ id: event!.readings[0].id! }, callOf());
  assert.equal(byReading.event.id, event!.id);
  const quiet = await device.read(
    { deviceName: "d1", command: "n", ...FLAGS, pushEvent: true, returnEvent: false },
    callOf(),
  );
  assert.equal(quiet.event, undefined);
  await eventually(async () => (await readingsOf(house)).length === 2);
  const answered = await device.read({ deviceName: "d1", command: "both", ...FLAGS }, callOf(requestId));
  assert.equal(answered.event!.id, requestId);
  assert.equal((await readingsOf(house)).length, 2, "what is not pushed is not kept");
});

test("AutoEvents are read on their grid, reported on change where so asked, and never of a locked device", async (t) => {
  const devices = [
    deviceOf("always", { autoEvents: [{ interval: "20ms", sourceName: "n" }] }),
    deviceOf("change", {
      autoEvents: [
        { interval: "5ms", sourceName: "n", onChange: true, onChangeThreshold: 3 },
        { interval: "5ms", sourceName: "o", onChange: true },
      ],
    }),
    deviceOf("locked", { adminState: "LOCKED", autoEvents: [{ interval: "5ms", sourceName: "n" }] }),
    deviceOf("often", { autoEvents: [{ interval: "often", sourceName: "n" }] }),
  ];
  const house = await start(t, { devices: devices.slice(0, 3) });
  const { driver, metadata } = house;
  driver.values.set("o", { a: 2n });
  const values = async (name: string) =>
    (await readingsOf(house, name))
      .filter((r) => r.resourceName === "n")
      .map((r) => Number(r.value))
      .reverse();
  for (const n of [10, 13, 14, 14, 10, 11]) {
    const before = driver.reads;
    driver.values.set("n", n);
    await eventually(() => driver.reads > before + 12);
  }
  await eventually(async () => (await values("change")).length >= 3);
  const changes = await values("change");
  assert.deepEqual(changes.slice(changes[0] === 1 ? 1 : 0), [10, 14, 10]);
  const all = await readingsOf(house, "always");
  assert.ok(all.length > 3);
  const gaps = all.slice(1).map((r, i) => Number(all[i].origin - r.origin) / 1e6);
  assert.ok(
    gaps.every((ms) => ms >= 1),
    `gaps ${gaps.join(" ")}`,
  );
  assert.equal((await readingsOf(house, "change")).filter((r) => r.resourceName === "o").length, 1);
  assert.deepEqual(await readingsOf(house, "locked"), []);
  await metadata.patchDevices(
    {
      body: [
        { device: { name: "locked", adminState: "UNLOCKED" } },
        { device: { name: "always", adminState: "LOCKED" } },
      ],
      bypassValidation: true,
    },
    callOf(),
  );
  await eventually(async () => (await readingsOf(house, "locked")).length > 2);
  const count = (await readingsOf(house, "always")).length;
  const reads = driver.reads;
  await eventually(() => driver.reads > reads + 20);
  assert.ok((await readingsOf(house, "always")).length <= count + 1);
});

test("a source that cannot be read is said once, and again when it can", async (t) => {
  const { driver, house } = await start(t, {
    devices: [deviceOf("d1", { autoEvents: [{ interval: "2ms", sourceName: "n" }] })],
  });
  driver.fault = new Error("broken");
  const { reads } = driver;
  await eventually(() => driver.reads > reads + 10);
  driver.fault = undefined;
  await eventually(() => house.lines.some((line) => line["msg"] === "an AutoEvent can be read again"));
  assert.equal(house.lines.filter((line) => line["msg"] === "an AutoEvent could not be read").length, 1);
});

test("it measures while metadata is away, and joins it when it comes", async (t) => {
  const house = await start(t, {
    devices: [deviceOf("d1", { autoEvents: [{ interval: "5ms", sourceName: "n" }] })],
    without: ["core-metadata"],
  });
  await eventually(async () => (await readingsOf(house)).length > 5);
  await house.house.start(metadataMain);
  await house.known("d1");
});

test("a message that is none costs a line in the log, and nothing else", async (t) => {
  const { house, metadata, known } = await start(t);
  await known("d1");
  const stranger = house.connect(bus, "open-edgex");
  for (const text of ["{", "[]", "null", '{"payload":7}', `{"payload":{"device":null},"requestID":"x"}`])
    await stranger.publish({ body: { topic: `edgex/${NAME}/validate/device`, payload: Buffer.from(text) } }, callOf());
  const added = await metadata.addDevices(
    { body: [{ device: deviceOf("d2") }], bypassValidation: false, force: false },
    callOf(),
  );
  assert.equal(added?.[0].statusCode, 201);
});
