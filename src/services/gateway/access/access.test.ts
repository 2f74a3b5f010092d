/** Who may: keys of programs and the policy of the routes file, at a real door. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { type GatewayHouse, RawClient, startGateway } from "../../../../test/houses/gateway.ts";
import { checkConfig } from "../../../kernel/config.ts";
import { systemClock } from "../../../kernel/clock.ts";
import { makeLog } from "../../../kernel/log.ts";
import { config, type GatewayConfig } from "../config.ts";
import { makeBelieved } from "./believed.ts";
import { checkRoutes, NO_ROUTES, ROUTES_MESSAGE } from "../routes.api.ts";
import { Policy } from "./policy.ts";

let house: GatewayHouse;
const sha256 = (key: string) => createHash("sha256").update(key).digest("hex");

before(async () => {
  house = await startGateway({ instanceWaitMs: 0 });
  await house.echo();
  house.house.tell("gateway", ROUTES_MESSAGE, {
    file: "routes.yaml",
    value: {
      apiKeys: [
        { name: "pump room", sha256: sha256("k-1"), scopes: ["reading:read", "command:write"] },
        { name: "visitor", sha256: sha256("k-2"), scopes: ["reading:read"] },
      ],
      policy: [
        { name: "no secrets", effect: "deny", paths: ["/echo/api/v3/say/secret-*"] },
        { name: "pumps", effect: "allow", paths: ["/echo/api/v3/say/pump-*"], subjects: ["pump *"] },
        {
          name: "all else",
          effect: "allow",
          paths: ["/echo/api/v3/write"],
          methods: ["POST"],
          scopes: ["command:write"],
        },
      ],
    },
  });
});
after(() => house.stop());

async function ask(path: string, headers: string) {
  const client = await RawClient.open(house);
  const answer = await client.send(`GET ${path} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`).answer();
  client.socket.destroy();
  const { code, subject } = JSON.parse(answer.body) as { code?: string; subject?: string };
  return [answer.status, code ?? subject];
}

test("a program comes in with its key, as what the file calls it, with what the file lets it", async () => {
  assert.deepEqual(await ask("/echo/api/v3/say/x", "X-API-Key: k-1\r\n"), [200, "pump room"]);
  assert.deepEqual(await ask("/echo/api/v3/say/x", "X-API-Key: wrong\r\n"), [401, "GATEWAY_TOKEN_INVALID"]);
  assert.deepEqual(await ask("/echo/api/v3/say/x", "X-API-Key: k-1\r\nX-API-Key: k-1\r\n"), [
    400,
    "GATEWAY_REQUEST_REFUSED",
  ]);
  assert.deepEqual(await ask("/core-keeper/api/v3/ping", "X-API-Key: k-2\r\n"), [404, "GATEWAY_ROUTE_UNKNOWN"]);
  assert.ok(!JSON.stringify(house.lines).includes('k-1"'));
});

test("on the paths that the policy is about nobody may but whom a rule lets, and each decision is logged", async () => {
  assert.deepEqual(await ask("/echo/api/v3/say/pump-7", "X-API-Key: k-1\r\n"), [200, "pump room"]);
  assert.deepEqual(await ask("/echo/api/v3/say/pump-7", "X-API-Key: k-2\r\n"), [403, "GATEWAY_POLICY_REFUSED"]);
  const admin = `Authorization: Bearer ${await house.token()}\r\n`;
  assert.deepEqual(await ask("/echo/api/v3/say/secret-1", admin), [403, "GATEWAY_POLICY_REFUSED"]);
  assert.deepEqual(await ask("/echo/api/v3/say/s%65cret-1", admin), [403, "GATEWAY_POLICY_REFUSED"]);
  assert.deepEqual(await ask("/echo/api/v3/say/other", admin), [200, "a admin"]);
  const decided = house.lines.filter((l) => l["msg"] === "the policy decided");
  assert.deepEqual(
    decided.map((l) => [l["subject"], l["allowed"], l["rule"]]),
    [
      ["pump room", true, "pumps"],
      ["visitor", false, undefined],
      ["a admin", false, "no secrets"],
      ["a admin", false, "no secrets"],
    ],
  );
});

test("a policy's patterns match whole segments and whole names, and the first rule that meets decides", () => {
  const policy = new Policy([
    { name: "1", effect: "deny", paths: ["/a/{x}/c"], methods: ["GET"] },
    { name: "2", effect: "allow", paths: ["/a/**"], subjects: ["*-b*d", "root"] },
  ]);
  const decide = (path: string, name: string, method = "GET") =>
    policy.decide({ method, segments: path.slice(1).split("/"), name, scopes: [] });
  assert.deepEqual(decide("/a/b/c", "root", "HEAD"), { allowed: false, rule: "1" });
  assert.deepEqual(decide("/a/b/c", "root", "PUT"), { allowed: true, rule: "2" });
  assert.deepEqual(decide("/a", "x-bcd"), { allowed: true, rule: "2" });
  assert.deepEqual(decide("/a/b", "x-bc"), { allowed: false, rule: undefined });
  assert.deepEqual(decide("/a/b", "-bd"), { allowed: true, rule: "2" });
  assert.equal(decide("/ab", "root"), undefined);
});

test("commands are judged by device, by whatever route they come: where one rule is about devices, none else decides", async () => {
  const policy = new Policy([
    { name: "never the valve", effect: "deny", devices: ["valve-1"], commands: ["open"], methods: ["PUT"] },
    { name: "pumps", effect: "allow", devices: ["pump-*"], commands: ["speed", "state"], subjects: ["plant/*"] },
    { name: "reading", effect: "allow", devices: ["*"], methods: ["GET"], scopes: ["device:read"] },
    { name: "operators", effect: "allow", devices: ["valve-*"], scopes: ["command:write"] },
  ]);
  const decide = (path: string, method = "PUT", name = "plant/ann", scopes = ["command:write"]) =>
    policy.decide({ method, segments: path.slice(1).split("/"), name, scopes });
  const at = (device: string, command: string) => `/core-command/api/v3/device/name/${device}/${command}`;
  assert.deepEqual(decide(at("pump-1", "speed")), { allowed: true, rule: "pumps" });
  assert.deepEqual(decide(at("pump-1", "reset")), { allowed: false, rule: undefined });
  assert.deepEqual(decide(at("valve-1", "open"), "PUT", "root", ["*"]), { allowed: false, rule: "never the valve" });
  assert.deepEqual(decide(at("valve-2", "open")), { allowed: true, rule: "operators" });
  assert.deepEqual(decide(at("fan", "speed"), "PUT", "root", ["*"]), { allowed: false, rule: undefined });
  assert.deepEqual(decide(at("fan", "speed"), "GET", "x", ["device:read"]), { allowed: true, rule: "reading" });
  assert.equal(decide("/core-command/api/v3/device/name/pump-1", "GET"), undefined, "a list of commands is none");
  assert.equal(decide("/core-data/api/v3/reading/all", "GET"), undefined);
});

test("a route of the file that leads to core-command by another path, in parts or in the dark, is judged as the command it is", async () => {
  const apiKeys = [{ name: "pump room", sha256: sha256("k-1"), roles: ["operator"] }];
  const path = "/api/v3/device/name/{name}/speed";
  const to = [{ upstream: "core-command", path }];
  const access = { scope: "command:write" };
  house.routes({
    apiKeys,
    policy: [{ name: "pumps", effect: "allow", devices: ["pump-*"] }],
    routes: [
      { name: "speed", match: { path: "/speed/{name}" }, access, to },
      { name: "anybody", match: { path: "/anybody/{name}" }, access: "public", to },
      {
        name: "parts",
        match: { path: "/parts/{name}" },
        access,
        compose: { parts: { speed: { upstream: "core-command", path } } },
      },
    ],
  });
  const key = "X-API-Key: k-1\r\n";
  assert.deepEqual(await ask("/speed/pump-1", key), [503, "UNAVAILABLE"], "let through to who is not there");
  assert.deepEqual(await ask("/speed/fan", key), [403, "GATEWAY_POLICY_REFUSED"]);
  assert.deepEqual(await ask("/speed/f%61n", key), [403, "GATEWAY_POLICY_REFUSED"]);
  assert.deepEqual(await ask("/speed/pump-1%2Fx", key), [503, "UNAVAILABLE"], "one name, and it begins with pump-");
  assert.deepEqual(await ask("/anybody/fan", ""), [403, "GATEWAY_POLICY_REFUSED"]);
  const decided = () => house.lines.filter((l) => l["msg"] === "the policy decided").length;
  const soFar = decided();
  await ask("/parts/fan", key);
  assert.equal(decided(), soFar + 1, "a part is asked for by nobody else");
});

test("roles and grants that contradict each other are refused with the routes file", () => {
  for (const [file, why] of [
    [{ roles: { admin: [] } }, /'roles.admin' is a role of this node/],
    [{ apiKeys: [{ name: "a", sha256: sha256("a"), roles: ["nobody"] }] }, /'a' has the role 'nobody'/],
    [{ grants: [{ name: "a" }] }, /needs either 'issuer' or 'authority'/],
    [{ grants: [{ name: "a", issuer: "x", authority: "y", holder: "z" }] }, /needs either/],
    [{ grants: [{ name: "a", authority: "y" }] }, /'holder' goes with 'authority'/],
    [{ grants: [{ name: "a", authority: "y", holder: "z", claims: { a: "b" } }] }, /'claims' with 'issuer'/],
    [{ policy: [{ name: "a", effect: "allow" }] }, /needs either 'paths' or 'devices'/],
    [{ policy: [{ name: "a", effect: "allow", paths: ["/"], commands: ["x"] }] }, /'commands' go with 'devices'/],
  ] as const)
    assert.throws(() => checkRoutes(file, "f"), { code: "GATEWAY_ROUTES_INVALID", message: why });
});

test("a config in which two would share a name is refused, and a grant about nobody is warned of", async () => {
  const lines: Record<string, unknown>[] = [];
  const believe = (given: object) =>
    makeBelieved({
      node: "edge-1",
      config: checkConfig(config, given, "gateway") as GatewayConfig,
      secrets: { "ca.pem": house.caPem },
      key: () => Buffer.alloc(32),
      ownAuthorities: [house.caPem],
      ownRoles: {},
      readOwnKeys: async () => ({ keys: [] }),
      clock: systemClock,
      log: makeLog("test", {
        to: { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) },
      }),
    });
  const issuer = (name: string, iss = `https://${name}.example`) => ({ name, issuer: iss, audiences: ["a"] });
  const authority = (name: string) => ({ name, caFile: "ca.pem" });
  for (const given of [
    { issuers: [issuer("a"), issuer("a", "https://b.example")] },
    { issuers: [issuer("a"), issuer("b", "https://a.example")] },
    { issuers: [issuer("a", "edge-1")] },
    { issuers: [issuer("a")], certificateAuthorities: [authority("a")] },
    { issuers: [issuer("node")], ownCertificates: true },
    { issuers: [issuer("a")], login: { issuer: "b", clientId: "c", url: "https://d.example" } },
    { certificateAuthorities: [{ name: "a", caFile: "none.pem" }] },
  ])
    assert.throws(() => believe(given), { code: "CONFIG_VALUE_INVALID" }, JSON.stringify(given));
  const { access } = believe({ issuers: [issuer("a")] });
  access.load({ ...NO_ROUTES, grants: [{ name: "g", issuer: "b", roles: [], scopes: ["*"] }] });
  assert.deepEqual(
    lines.map(({ level, grant }) => [level, grant]),
    [[40, "g"]],
  );
});
