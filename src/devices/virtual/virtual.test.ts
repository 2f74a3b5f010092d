import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { callOf, edgeHouse, eventually, temporary } from "../../../test/houses/edge.ts";
import type { DeviceResource } from "../../kernel/edgex.ts";
import { VALUE_TYPES } from "../../kernel/events/model.ts";
import { checkValue } from "../../kernel/events/values.ts";
import { main as busMain } from "../../services/bus/main.ts";
import { coreData } from "../../services/core-data/api.ts";
import { main as dataMain } from "../../services/core-data/main.ts";
import { coreMetadata } from "../../services/core-metadata/api.ts";
import { main as metadataMain } from "../../services/core-metadata/main.ts";
import { deviceService } from "../sdk/api.ts";
import { main } from "./main.ts";
import { draw, readSeries, seeded } from "./series.ts";

const FLAGS = { pushEvent: false, returnEvent: true, regexCmd: true };

test("values are drawn of their type and within their limits, the same again from the same seed", () => {
  const resource = (properties: Partial<DeviceResource["properties"]>): DeviceResource => ({
    name: "r",
    properties: { valueType: "Int8", readWrite: "R", ...properties },
  });
  const [one, two] = [seeded(7), seeded(7)];
  for (const valueType of VALUE_TYPES) {
    if (valueType.endsWith("Array")) {
      assert.throws(() => draw(resource({ valueType }), one), { code: "DEVICE_FAILED" });
      continue;
    }
    for (let i = 0; i < 200; i++) {
      const value = draw(resource({ valueType }), one);
      assert.deepEqual(value, draw(resource({ valueType }), two));
      checkValue(valueType, value, valueType);
    }
  }
  const limits = [
    [0.5, 3.5],
    [-0.00001, 0.00002],
    [5, 5],
  ] as const;
  for (const [minimum, maximum] of limits) {
    for (const valueType of ["Float64", "Float32", "Int16"] as const) {
      if (valueType === "Int16" && minimum < 0) continue;
      const seen = new Set<number>();
      for (let i = 0; i < 300; i++) {
        const value = Number(draw(resource({ valueType, minimum, maximum }), one));
        assert.ok(value >= Math.fround(minimum) - 1e-9 && value <= maximum + 1e-9, `${valueType} ${value}`);
        if (valueType === "Int16") assert.ok(Number.isInteger(value));
        seen.add(value);
      }
      if (valueType === "Int16" && minimum === 0.5)
        assert.deepEqual(
          [...seen].sort((a, b) => a - b),
          [1, 2, 3],
        );
    }
  }
});

test("a series is read from its file, and what is none names its line", (t) => {
  const path = join(temporary(t), "series.csv");
  const series = (text: string) => {
    writeFileSync(path, text);
    return [...readSeries(path)];
  };
  assert.deepEqual(series("timestamp,value\n2014-01-01 00:00:00,1.5\r\n2014-01-01 00:05:00,-2e3\n\n"), [1.5, -2000]);
  assert.deepEqual(series("0,1e5\n1,2\n"), [100_000, 2], "no header");
  for (const bad of ["timestamp,value\n1,\n", "timestamp,value\n1,x\n", "1,1\n2\n", "1,NaN\n1,NaN\n"])
    assert.throws(() => series(bad), /line \d/, bad);
  assert.throws(() => series("timestamp,value\n"), /no values/);
  assert.throws(() => readSeries(`${path}.none`), /ENOENT/);
});

test("what is written sticks, a series is played again and again, and the load arrives", async (t) => {
  const directory = temporary(t);
  const house = edgeHouse(t, directory);
  const path = join(directory, "pump.csv");
  writeFileSync(path, "timestamp,value\n1,1\n2,2\n3,3.5\n");
  await house.start(busMain);
  await house.start(metadataMain);
  await house.start(dataMain);
  const load = { loadEventsPerSecond: 500, loadReadingsPerEvent: 3, loadDevices: 2 };
  await house.start(main, { replay: [path], replayInterval: "3ms", interval: "1h", ...load });
  const device = house.connect(deviceService("device-virtual"), "core-command");
  const data = house.connect(coreData, "gateway");
  const metadata = house.connect(coreMetadata, "gateway");
  await eventually(() => metadata.deviceByName({ name: "virtual-1" }, callOf()));
  const read = async (command: string) =>
    (await device.read({ deviceName: "virtual-1", command, ...FLAGS }, callOf())).event!.readings;
  const { profile } = await metadata.profileByName({ name: "Holdfast-Virtual" }, callOf());
  for (const { name } of profile.deviceResources!) assert.equal((await read(name))[0].valueType, name);
  await device.write({ deviceName: "virtual-1", command: "Int32", body: { Int32: "-7" } }, callOf());
  await device.write(
    { deviceName: "virtual-1", command: "floats", body: { Float32: "1.5", Float64: "2.5" } },
    callOf(),
  );
  assert.equal((await read("Int32"))[0].value, "-7");
  assert.deepEqual(
    (await read("floats")).map((r) => Number(r.value)),
    [1.5, 2.5],
  );
  await assert.rejects(device.write({ deviceName: "pump", command: "value", body: { value: "1" } }, callOf()), {
    code: "DEVICE_NOT_ALLOWED",
  });
  await assert.rejects(device.read({ deviceName: "pump", command: "other", ...FLAGS }, callOf()), {
    code: "DEVICE_COMMAND_UNKNOWN",
  });
  const list = (name: string) => data.readingsByDevice({ name, offset: 0, limit: 100, numeric: false }, callOf());
  await eventually(async () => (await list("pump")).totalCount >= 8);
  const played = (await list("pump")).readings.map((r) => Number(r.value)).reverse();
  assert.deepEqual(played.slice(0, 8), [1, 2, 3.5, 1, 2, 3.5, 1, 2]);
  await eventually(async () => (await list("load-2")).totalCount > 60);
});
