import assert from "node:assert/strict";
import { test } from "node:test";
import { HandClock } from "../../test/houses/leases.ts";
import { instanceOf } from "../../test/houses/registry.ts";
import { Table } from "../services/registry/client.ts";
import { Needs } from "./needs.ts";

test("a need that was there and has been gone for two seconds is missed, one that is restarted is not", () => {
  const table = new Table();
  const clock = new HandClock();
  const needs = new Needs(["bus", "core-metadata", "device-*"], table, clock);
  const bus = { ...instanceOf("bus", "b") };
  let revision = 0;
  const tell = (kind: "up" | "changed" | "down", more: object = {}) =>
    table.apply({ revision: ++revision, kind, instances: [{ ...bus, ...more }] });
  const after = (ms: number) => {
    clock.nowMs += ms;
    return needs.missing();
  };
  assert.deepEqual(after(60_000), [], "what never was there is its own story");
  tell("up");
  tell("down");
  assert.deepEqual(after(0), []);
  assert.deepEqual(after(1_900), []);
  tell("up");
  assert.deepEqual(after(1_900), []);
  for (const how of [{ state: "critical" }, { maintenance: true }, { check: "http" }]) {
    tell("changed", how);
    assert.deepEqual(after(0), []);
    assert.deepEqual(after(2_000), ["bus"], JSON.stringify(how));
    tell("changed");
    assert.deepEqual(after(0), []);
  }
  tell("changed", { state: "warning" });
  assert.deepEqual(after(5_000), [], "it still answers");
});
