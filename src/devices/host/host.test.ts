import assert from "node:assert/strict";
import { test } from "node:test";
import { callOf, SetClock, temporary } from "../../../test/houses/edge.ts";
import { textToValue } from "../../kernel/events/values.ts";
import { makeHostDriver } from "./driver.ts";
import { cpuTimes, diskBytes, memoryBytes, networkBytes, pressure, uptimeSeconds } from "./machine.ts";

const made = (directory: string, clock = new SetClock()) =>
  makeHostDriver({ clock, directory, deviceName: "box", serviceName: "device-host", interval: "5s" });

test("the profile has what this machine has, and every command reads plausible values", async (t) => {
  const driver = made(temporary(t));
  const [profile] = driver.profiles;
  const [device] = driver.devices;
  const resources = profile.deviceResources!;
  assert.ok(resources.some((r) => r.name === "MemoryTotal"));
  assert.deepEqual(
    device.autoEvents?.map((a) => a.sourceName),
    profile.deviceCommands?.map((c) => c.name),
  );
  for (const command of profile.deviceCommands!) {
    const parts = command.resourceOperations.map((o) => resources.find((r) => r.name === o.deviceResource)!);
    const values = await driver.read(device, parts, callOf());
    parts.forEach(({ name, properties }, i) => {
      const value = values[i];
      assert.equal(typeof value, "number", name);
      textToValue(String(value), properties.valueType, name);
      if (properties.units === "%")
        assert.ok(Number(value) >= 0 && Number(value) <= 100, `${name} is ${String(value)}`);
      if (properties.units === "C")
        assert.ok(Number(value) > -50 && Number(value) < 150, `${name} is ${String(value)}`);
    });
    if (command.name === "cpu") assert.ok(Math.abs(values.reduce((sum: number, v) => sum + Number(v), 0) - 100) < 0.1);
  }
  const memory = await driver.read(
    device,
    resources.filter((r) => /^Memory(Total|Available)$/.test(r.name)),
    callOf(),
  );
  assert.ok(Number(memory[1]) < Number(memory[0]) && Number(memory[0]) > 2 ** 25);
});

test("what the kernel's files say is read as they mean it", () => {
  assert.deepEqual(cpuTimes("cpu  1 2 3 4 5 6 7 8 0 0\ncpu0 1 2 3 4 5 6 7 8\n"), {
    user: 3,
    system: 16,
    idle: 4,
    iowait: 5,
    steal: 8,
  });
  assert.equal(cpuTimes("intr 1\n"), undefined);
  assert.equal(memoryBytes("MemAvailable", "MemTotal:  10 kB\nMemAvailable:    7 kB\n"), 7_168);
  const disks = [
    "   8  0 sda 1 0 10 0 1 0 20 0",
    "   8  1 sda1 1 0 10 0 1 0 20 0",
    " 259 0 nvme0n1 1 0 1 0 1 0 2 0",
    "  7 0 loop0 1 0 9 0 1 0 9 0",
  ].join("\n");
  assert.deepEqual(diskBytes(disks), { read: 11 * 512, written: 22 * 512 });
  assert.equal(diskBytes("  7 0 loop0 1 0 9 0 1 0 9 0\n"), undefined, "no disk at all");
  const network =
    "Inter-|\n face |\n    lo: 5 0 0 0 0 0 0 0 5\n  eth0: 100 0 0 0 0 0 0 0 200 0\n wlan0:1 0 0 0 0 0 0 0 2 0\n";
  assert.deepEqual(networkBytes(network), { received: 101, sent: 202 });
  assert.equal(networkBytes("Inter-|\n face |\n    lo: 5 0 0 0 0 0 0 0 5\n"), undefined);
  assert.equal(pressure("io", "some avg10=1.25 avg60=0.00 avg300=0.00 total=1\nfull avg10=9.99\n"), 1.25);
  assert.equal(uptimeSeconds("12345.67 999.9\n"), 12_345);
});

test("a device that is not this machine is refused", (t) => {
  const driver = made(temporary(t));
  const other = { ...driver.devices[0], name: "other", protocols: { modbus: {} } };
  assert.throws(() => driver.validate!(other), /no protocol 'host'/);
  driver.validate!(driver.devices[0]);
});
