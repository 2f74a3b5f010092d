/** Executes docs/gateway.md: each block is loaded as a routes file, each row of the table after it is asked and compared. */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { parse } from "yaml";
import { type GatewayHouse, RawClient, startGateway } from "../../../test/houses/gateway.ts";
import { type IssuerHouse, makeKey, sign, startIssuer } from "../../../test/houses/issuer.ts";
import { main as busMain } from "../bus/main.ts";
import { type Packet, readPacket, TYPE, writePacket } from "./coap/packet.ts";
import { OPTION } from "./coap/terms.ts";
import { checkRoutes, ROUTES_MESSAGE } from "./routes.api.ts";

const page = readFileSync(join(import.meta.dirname, "../../../docs/gateway.md"), "utf8");
const ROW = /^\| (?:(coap) )?(GET|POST) (\S+?)(?: with ([^|]+?))? \| (\d\.?\d{2})(?: `(.+)`)? \|$/gm;
const examples = page
  .split("```yaml\n")
  .slice(1)
  .map((part) => part.split("\n```\n"))
  .map(([yaml = "", rest = ""]) => ({ yaml, rows: [...rest.split("\n## ", 1)[0].matchAll(ROW)] }));

/** The page's part of the config, and its routes files. */
const configs = examples.filter(({ yaml }) => yaml.startsWith("gateway:"));
const files = examples.filter((each) => !configs.includes(each));

const directory = mkdtempSync(join(tmpdir(), "docs-"));
const key = makeKey("k");
let issuer: IssuerHouse;
let house: GatewayHouse;
before(async () => {
  issuer = await startIssuer([key]);
  for (const name of ["plant-ca.pem", "devices-ca.pem"]) writeFileSync(join(directory, name), issuer.caPem);
  const here = configs[0].yaml
    .replaceAll("https://login.plant.example", issuer.url)
    .replaceAll("/etc/holdfast/", `${directory}/`);
  house = await startGateway({ ...(parse(here) as { gateway: object }).gateway, instanceWaitMs: 0 });
  await house.house.start(busMain);
});
after(async () => {
  await house.stop();
  await issuer.stop();
  rmSync(directory, { recursive: true });
});

/** The tokens that the page names. */
async function tokens(): Promise<Record<string, string>> {
  const nowS = Math.floor(Date.now() / 1000);
  const claims = { iss: issuer.url, aud: "https://edge-1.plant.example:8443", sub: "ann", groups: ["shift-2"] };
  return {
    ANN: await sign({ ...claims, exp: nowS + 600 }, key),
    EXPIRED: await sign({ ...claims, exp: nowS - 600 }, key),
  };
}

/** The code of the answer that a device has to a request. */
async function askByCoap(method: string, path: string): Promise<string> {
  const socket = createSocket("udp4");
  const options = path
    .slice(1)
    .split("/")
    .map((segment) => ({ number: OPTION.uriPath, value: Buffer.from(segment) }));
  const code = method === "GET" ? 1 : 2;
  const token = Buffer.from("t");
  const asked = { type: TYPE.confirmable, code, id: 1, token, options, payload: Buffer.alloc(0) };
  const answered = once(socket, "message");
  socket.send(writePacket(asked), house.coapPort, "127.0.0.1");
  const [bytes] = (await answered) as [Buffer];
  socket.close();
  const { code: told } = readPacket(bytes) as Packet;
  return `${told >> 5}.${String(told & 31).padStart(2, "0")}`;
}

test("every example of docs/gateway.md is a routes file that does what the page says", async () => {
  assert.ok(files.length >= 6);
  assert.equal(configs.length, 1);
  const named = await tokens();
  for (const { yaml, rows } of files) {
    const value: unknown = parse(yaml);
    checkRoutes(value, "docs/gateway.md");
    house.house.tell("gateway", ROUTES_MESSAGE, { file: "docs/gateway.md", value });
    assert.ok(rows.length > 0, `nothing is asked of:\n${yaml}`);
    for (const [row, coap, method, path, header, status, body] of rows) {
      if (coap) {
        assert.equal(await askByCoap(method, path), status, row);
        continue;
      }
      const client = await RawClient.open(house);
      const given = header?.replace(/[A-Z]+$/, (name) => named[name] ?? name);
      const more = (given ? `${given}\r\n` : "") + (method === "POST" ? "Content-Length: 2\r\n" : "");
      client.send(`${method} ${path} HTTP/1.1\r\nHost: x\r\n${more}\r\n${method === "POST" ? "{}" : ""}`);
      const answer = await client.answer();
      client.socket.destroy();
      assert.equal(answer.status, Number(status), `${row}\n${answer.text}`);
      // Bytes that are no letters are written as \x81.
      const told = body?.replaceAll(/\\x([0-9a-f]{2})/g, (_, hex: string) =>
        String.fromCharCode(Number.parseInt(hex, 16)),
      );
      if (told !== undefined) assert.equal(answer.body, told, row);
    }
  }
});
