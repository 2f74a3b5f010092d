/** Executes docs/gateway.md: each block is loaded as a routes file, each row of the table after it is asked and compared. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { parse } from "yaml";
import { type GatewayHouse, RawClient, startGateway } from "../../../test/houses/gateway.ts";
import { main as busMain } from "../bus/main.ts";
import { checkRoutes, ROUTES_MESSAGE } from "./routes.api.ts";

const page = readFileSync(join(import.meta.dirname, "../../../docs/gateway.md"), "utf8");
const ROW = /^\| (GET|POST) (\S+?)(?: with ([^|]+?))? \| (\d{3})(?: `(.+)`)? \|$/gm;
const examples = page
  .split("```yaml\n")
  .slice(1)
  .map((part) => part.split("\n```\n"))
  .map(([yaml = "", rest = ""]) => ({ yaml, rows: [...rest.split("\n## ", 1)[0].matchAll(ROW)] }));

let house: GatewayHouse;
before(async () => {
  house = await startGateway();
  await house.house.start(busMain);
});
after(() => house.stop());

test("every example of docs/gateway.md is a routes file that does what the page says", async () => {
  assert.ok(examples.length >= 6);
  for (const { yaml, rows } of examples) {
    const value: unknown = parse(yaml);
    checkRoutes(value, "docs/gateway.md");
    house.house.tell("gateway", ROUTES_MESSAGE, { file: "docs/gateway.md", value });
    assert.ok(rows.length > 0, `nothing is asked of:\n${yaml}`);
    for (const [row, method, path, header, status, body] of rows) {
      const client = await RawClient.open(house);
      const more = (header ? `${header}\r\n` : "") + (method === "POST" ? "Content-Length: 2\r\n" : "");
      client.send(`${method} ${path} HTTP/1.1\r\nHost: x\r\n${more}\r\n${method === "POST" ? "{}" : ""}`);
      const answer = await client.answer();
      client.socket.destroy();
      assert.equal(answer.status, Number(status), `${row}\n${answer.text}`);
      if (body !== undefined) assert.equal(answer.body, body, row);
    }
  }
});
