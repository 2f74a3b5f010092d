/** Login for browsers against a real provider of OpenID Connect, over TLS, from the first page to the logout. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type GatewayHouse, startGateway } from "../../../../test/houses/gateway.ts";
import { Browser, logIn, startProvider } from "../../../../test/houses/oidc.ts";

const DOOR = "https://edge.example";
const ECHO = `${DOOR}/echo/api/v3`;
const SECRET = "s p+e/c:ial";
const SCOPES = ["node:read", "reading:read", "command:write"];
const directory = mkdtempSync(join(tmpdir(), "login-"));
let provider: Awaited<ReturnType<typeof startProvider>>;
let house: GatewayHouse;

before(async () => {
  provider = await startProvider({ id: "edge-1", secret: SECRET, url: DOOR }, { ann: ["shift-1"] });
  const caFile = join(directory, "ca.pem");
  const clientSecretFile = join(directory, "secret");
  writeFileSync(caFile, provider.caPem);
  writeFileSync(clientSecretFile, `${SECRET}\n`);
  house = await startGateway({
    issuers: [
      {
        name: "plant",
        issuer: provider.url,
        caFile,
        audiences: [DOOR],
        algorithms: ["ES256"],
        types: ["at+jwt"],
        keysStaleMsMax: 60_000,
      },
    ],
    login: { issuer: "plant", clientId: "edge-1", clientSecretFile, url: DOOR, scopes: ["groups"], sessionMs: 60_000 },
  });
  await house.echo();
  grant(SCOPES);
});
after(async () => {
  await house.stop();
  await provider.stop();
  rmSync(directory, { recursive: true });
});

function grant(scopes: string[]): void {
  house.routes({ grants: [{ name: "shift", issuer: "plant", claims: { groups: "shift-*" }, scopes }] });
}

const makeBrowser = () =>
  new Browser({
    "edge.example": house,
    [new URL(provider.url).host]: { port: Number(new URL(provider.url).port), caPem: provider.caPem },
  });
const isCallback = (url: URL) => url.pathname === "/login/callback";
const codeOf = (body: string) => (JSON.parse(body) as { code?: string }).code;
const post = (more: Record<string, string>) => ({
  method: "POST",
  headers: { "content-type": "application/json", "content-length": "0", ...more },
});

test("somebody logs in, is who the provider says and may what grants say, and is out after the logout, with copies of the cookie too", async () => {
  const browser = makeBrowser();
  assert.equal((await browser.ask(`${ECHO}/say/x`)).status, 401);
  const landed = await logIn(browser, `${DOOR}/login?to=/session`, "ann", () => false);
  assert.equal(landed.status, 200, landed.body);
  assert.equal(landed.url.href, `${DOOR}/session`);
  const session = JSON.parse(landed.body) as { subject: string; scopes: string[] };
  assert.deepEqual([session.subject, session.scopes], ["plant/ann", SCOPES]);
  const said = JSON.parse((await browser.ask(`${ECHO}/say/x`)).body) as { subject: string };
  assert.equal(said.subject, "plant/ann", "services are told");
  assert.match((await browser.ask(`${DOOR}/`)).body, /say/, "the index tells what is behind the door");
  const copy = makeBrowser();
  for (const [key, cookie] of browser.cookies) copy.cookies.set(key, cookie);

  const origins = ["https://evil.example", "null", `${DOOR}.evil.example`];
  for (const headers of [{}, ...origins.map((origin) => ({ origin }))] as Record<string, string>[])
    assert.equal(codeOf((await browser.ask(`${DOOR}/logout`, post(headers))).body), "GATEWAY_CROSS_SITE");
  assert.equal((await browser.ask(`${DOOR}/logout`)).status, 405);
  const out = await browser.ask(`${DOOR}/logout`, post({ origin: DOOR }));
  assert.equal(out.status, 303);
  assert.match(out.headers.location!, /\/session\/end\?client_id=edge-1&post_logout_redirect_uri=https%3A%2F%2Fedge/);
  assert.equal((await browser.ask(`${ECHO}/say/x`)).status, 401);
  assert.equal((await copy.ask(`${ECHO}/say/x`)).status, 401);
  const told = house.lines.filter(({ msg }) => msg === "somebody logged in" || msg === "somebody logged out");
  assert.deepEqual(
    told.map(({ subject, requestId }) => [subject, typeof requestId]),
    [
      ["plant/ann", "string"],
      ["plant/ann", "string"],
    ],
  );
});

test("cookies are of this host alone, unreadable, out of reach of scripts and other pages, and no service is sent one", async () => {
  const browser = makeBrowser();
  const begun = await browser.ask(`${DOOR}/login`);
  const asked = new URL(begun.headers.location!).searchParams;
  assert.equal(asked.get("code_challenge_method"), "S256");
  assert.equal(asked.get("response_type"), "code");
  for (const name of ["state", "nonce", "code_challenge"]) assert.equal(asked.get(name)!.length, 43, name);
  const way = await logIn(browser, `${DOOR}/login`, "ann", isCallback);
  const landed = await browser.ask(way.headers.location!);
  for (const each of [...begun.setCookies, ...landed.setCookies])
    assert.match(
      each,
      /^__Host-holdfast-(login|session)=[\w-]*; Max-Age=\d+; Path=\/; Secure; HttpOnly; SameSite=Lax$/,
    );
  const { value } = [...browser.cookies.values()].find(({ name }) => name.endsWith("session"))!;
  assert.ok(!Buffer.from(value, "base64url").toString("latin1").includes("ann"));
  for (const [name, wrong] of Object.entries({
    cut: value.slice(0, -4),
    "a bit turned": value.slice(0, 40) + (value[40] === "A" ? "B" : "A") + value.slice(41),
    "another cookie": begun.setCookies[0].split(/[=;]/)[1],
    "with padding": `${value}=`,
    empty: "",
    twice: `${value}; __Host-holdfast-session=${value}`,
  })) {
    const stranger = makeBrowser();
    const headers = { cookie: `__Host-holdfast-session=${wrong}` };
    assert.equal((await stranger.ask(`${ECHO}/say/x`, { headers })).status, 401, name);
  }
  assert.ok(house.lines.every((line) => !JSON.stringify(line).includes(value.slice(0, 30))));
});

test("what another page makes a browser send changes nothing: its Origin is not this door's", async () => {
  const browser = makeBrowser();
  await logIn(browser, `${DOOR}/login?to=/session`, "ann", () => false);
  const write = (headers: Record<string, string>) =>
    browser.ask(`${ECHO}/write`, { method: "POST", form: { text: "x" }, headers });
  for (const headers of [{}, { origin: "https://evil.example" }, { origin: "http://edge.example" }, { origin: "null" }])
    assert.equal(codeOf((await write(headers as Record<string, string>)).body), "GATEWAY_CROSS_SITE");
  const own = await write({ origin: DOOR });
  assert.notEqual(own.status, 403, "the service judges its form");
  const token = await house.token("viewer");
  const viewer = await browser.ask(`${DOOR}/session`, { headers: { authorization: `Bearer ${token}` } });
  assert.match(viewer.body, /"a viewer"/, "a token goes before the session");
});

test("a login that was not begun here, comes back changed, twice or from another issuer fails, and its reason is logged", async () => {
  const browser = makeBrowser();
  const way = await logIn(browser, `${DOOR}/login`, "ann", isCallback);
  const back = new URL(way.headers.location!);
  const kept = [...browser.cookies];
  const changed = async (change: (url: URL) => void, cookies = kept) => {
    browser.cookies.clear();
    for (const [key, cookie] of cookies) browser.cookies.set(key, cookie);
    const url = new URL(back);
    change(url);
    const page = await browser.ask(url);
    assert.ok(!page.setCookies.some((each) => each.includes("-session=")), url.href);
    return [page.status, codeOf(page.body)];
  };
  const failed = [401, "GATEWAY_LOGIN_FAILED"];
  assert.deepEqual(await changed(() => undefined, []), failed, "RFC 9700 2.1: no cookie");
  assert.deepEqual(await changed((url) => url.searchParams.set("state", "x")), failed);
  assert.deepEqual(await changed((url) => url.searchParams.delete("state")), failed);
  assert.deepEqual(await changed((url) => url.searchParams.append("state", back.searchParams.get("state")!)), failed);
  assert.deepEqual(await changed((url) => url.searchParams.set("code", "stolen")), failed);
  assert.deepEqual(await changed((url) => url.searchParams.set("iss", "https://evil.example")), failed, "RFC 9207");
  assert.deepEqual(
    await changed((url) => url.searchParams.delete("iss")),
    failed,
    "the issuer says that it names itself",
  );
  assert.deepEqual(await changed((url) => url.searchParams.set("error", "access_denied")), failed);
  const other = makeBrowser();
  await other.ask(`${DOOR}/login`);
  assert.deepEqual(await changed(() => undefined, [...other.cookies]), failed, "RFC 7636: of another browser");
  browser.cookies.clear();
  for (const [key, cookie] of kept) browser.cookies.set(key, cookie);
  assert.equal((await browser.ask(back)).status, 303);
  assert.deepEqual(await changed(() => undefined), failed, "a code is good once");
  const reasons = house.lines.filter(({ msg }) => msg === "a login failed");
  assert.ok(reasons.length >= 10 && reasons.every(({ requestId }) => typeof requestId === "string"));
});

test("a login leads to pages of this door alone", async () => {
  const browser = makeBrowser();
  for (const to of [
    "//evil.example",
    "/\\evil.example",
    "https://evil.example",
    "evil",
    "",
    "/a\r\nx: y",
    "/\t/evil.example",
  ]) {
    const page = await browser.ask(`${DOOR}/login?${new URLSearchParams({ to }).toString()}`);
    assert.equal(codeOf(page.body), "GATEWAY_REQUEST_REFUSED", to);
  }
});

test("what a session may follows the grants of now, and who has none is let in nowhere", async () => {
  const browser = makeBrowser();
  await logIn(browser, `${DOOR}/login?to=/session`, "ann", () => false);
  assert.equal((await browser.ask(`${ECHO}/say/x`)).status, 200);
  grant([]);
  assert.equal(codeOf((await browser.ask(`${ECHO}/say/x`)).body), "GATEWAY_SCOPE_MISSING");
  grant(SCOPES);
  const ben = makeBrowser();
  const landed = await logIn(ben, `${DOOR}/login?to=/session`, "ben", () => false);
  assert.match(landed.body, /"subject":"plant\/ben","scopes":\[\]/);
  const refused = await ben.ask(`${ECHO}/say/x`);
  assert.equal(codeOf(refused.body), "GATEWAY_SCOPE_MISSING");
  const decided = house.lines.find(({ msg, subject }) => msg === "the scopes decided" && subject === "plant/ben")!;
  assert.deepEqual(
    [decided["allowed"], decided["scope"], decided["requestId"]],
    [false, "reading:read", refused.headers["x-request-id"]],
  );
});
