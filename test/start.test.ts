/** A start that cannot be is refused at once, with a stable code and the key that changes it, and changes nothing. */
import assert from "node:assert/strict";
import { closeSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { listenTcp } from "../src/node/confine/listen.ts";
import { doorsOf, freePorts } from "./houses/edgex.ts";
import { Whole } from "./houses/whole.ts";

const houses: Whole[] = [];
after(() => Promise.all(houses.map((house) => house.remove())));
function houseOf(options: ConstructorParameters<typeof Whole>[0]): Whole {
  const house = new Whole(options);
  houses.push(house);
  return house;
}

test("a port of EdgeX's in use is named with its key in the config", async () => {
  const ports = freePorts();
  const taken = listenTcp({ host: "127.0.0.1", port: ports["core-data"] });
  const house = houseOf({ args: ["--open-edgex"], doors: doorsOf(ports) });
  await assert.rejects(house.start(), new RegExp(`127\\.0\\.0\\.1:${ports["core-data"]}[^]*NODE_PORT_IN_USE`));
  assert.match(house.output.replaceAll(/\s+/g, " "), /node\.doors\.core-data\.edgex\.port chooses another port/);
  closeSync(taken.fd);
});

test("a door without TLS does not open to other machines", async () => {
  const house = houseOf({ args: ["--open-edgex"], doors: { "bus.mqtt": { host: "0.0.0.0" } } });
  await assert.rejects(
    house.start(),
    /'node\.doors\.bus\.mqtt\.host' is '0\.0\.0\.0'[^]*loopback only[^]*CONFIG_VALUE_INVALID/,
  );
});

test("a state whose key file is gone, or another's, is refused, and whole again when the key is back", async () => {
  const house = houseOf({ args: ["--no-cloud", "--only", "bus"] });
  await house.start();
  await house.stop();
  const ring = join(house.state, "node", "keyring.json");
  const before = readFileSync(ring, "utf8");
  renameSync(house.keyFile, `${house.keyFile}.away`);
  await assert.rejects(house.start(), /SEAL_[A-Z_]+/);
  await assert.rejects(house.start(), /SEAL_[A-Z_]+/);
  assert.equal(readFileSync(ring, "utf8"), before);
  rmSync(house.keyFile, { force: true });
  renameSync(`${house.keyFile}.away`, house.keyFile);
  await house.start();
  assert.match(await house.text("status"), /bus +passing/);
});
