import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, request as httpsRequest, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import { connect, type ConnectionOptions, createServer as createTlsServer, type TLSSocket } from "node:tls";
import { systemClock as clock } from "../clock.ts";
import { type Authority, createAuthority, type IssueOptions, loadAuthority } from "./authority.ts";
import { peerName } from "./peer.ts";
import { makeKeyAndRequest } from "./request.ts";
import { spiffeName } from "./names.ts";
import { TlsIdentity, type TlsIdentityOptions } from "./tls.ts";

const node = "edge1";
const authority = await createAuthority({ node, clock });
const stranger = await createAuthority({ node, clock });
const closing: Array<() => void> = [];
after(() => {
  for (const close of closing) close();
});

async function certify(by: Authority, name: string, more: Partial<IssueOptions> = {}) {
  const { keyPem, csrPem } = await makeKeyAndRequest(name);
  const { certPem, serial } = await by.issue({
    csrPem,
    name,
    dns: [],
    ips: [],
    lifetimeMs: 3_600_000,
    client: true,
    server: true,
    ...more,
  });
  return { certPem, keyPem, serial };
}

/** A service's identity; `by` signs it, while it trusts `authority` as everybody does. */
async function identityOf(
  service: string,
  more: Partial<TlsIdentityOptions> & Partial<IssueOptions> & { by?: Authority } = {},
): Promise<TlsIdentity> {
  const { by = authority, connectionAgeMsMax, ...rest } = more;
  const at = rest.node ?? node;
  const identity = new TlsIdentity({
    node: at,
    service,
    caPem: rest.caPem ?? authority.certPem,
    ...(connectionAgeMsMax ? { connectionAgeMsMax } : {}),
  });
  identity.update(await certify(by, spiffeName(at, service), rest));
  closing.push(() => identity.close());
  return identity;
}

/** Serves the caller's name over HTTPS on a free port of loopback. */
async function serve(identity: TlsIdentity, more: object = {}): Promise<{ server: Server; port: number }> {
  const server = createServer({ ...identity.serverOptions(), ...more }, (request, response) => {
    response.end(
      JSON.stringify({
        caller: peerName(request.socket as TLSSocket)?.service ?? "nobody",
        resumed: (request.socket as TLSSocket).isSessionReused(),
      }),
    );
  });
  identity.attach(server);
  await once(server.listen(0, "127.0.0.1"), "listening");
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { server, port: (server.address() as AddressInfo).port };
}

interface Got {
  caller: string;
  resumed: boolean;
  reused: boolean;
  lastAnswer: boolean;
}
const get = (
  identity: TlsIdentity,
  port: number,
  expect: Parameters<TlsIdentity["agent"]>[0] = "core-data",
): Promise<Got> =>
  new Promise((resolve, reject) => {
    const sent = httpsRequest({ host: "127.0.0.1", port, agent: identity.agent(expect) }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => (text += part));
      response.on("end", () =>
        resolve({
          ...(JSON.parse(text) as { caller: string; resumed: boolean }),
          reused: sent.reusedSocket,
          lastAnswer: response.headers.connection === "close",
        }),
      );
    });
    sent.on("error", reject).end();
  });

/** Speaks TLS with options of its own; resolves to the answer's first bytes, rejects with whatever refused it. */
const raw = (port: number, options: ConnectionOptions): Promise<{ text: string; protocol: string | null }> =>
  new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false, ...options }, () =>
      socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    );
    socket.once("data", (data) => {
      resolve({ text: data.toString(), protocol: socket.getProtocol() });
      socket.destroy();
    });
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("closed without an answer")));
  });

const coreData = await identityOf("core-data");
const { server, port } = await serve(coreData);

test("two services of one node talk, and each knows who the other is", async () => {
  const bus = await identityOf("bus");
  assert.equal((await get(bus, port)).caller, "bus");
  const socket = connect({ host: "127.0.0.1", port, ...bus.clientOptions("core-data") });
  await once(socket, "secureConnect");
  assert.deepEqual(peerName(socket), coreData.certificate);
  assert.equal(socket.getProtocol(), "TLSv1.3");
  socket.destroy();
});

test("a client without a certificate is refused", async () => {
  await assert.rejects(raw(port, {}), /certificate required|ECONNRESET|closed without/);
});

test("a client of another authority is refused, whatever its name, and so is such a server", async () => {
  const { certPem, keyPem } = await certify(stranger, spiffeName(node, "gateway"));
  await assert.rejects(raw(port, { cert: certPem, key: keyPem }), /alert|ECONNRESET|closed without/);
  const impostor = await identityOf("core-data", { by: stranger });
  const other = await serve(impostor);
  await assert.rejects(get(await identityOf("bus"), other.port), { code: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" });
});

test("a certificate for clients does not serve, and one for servers does not call", async () => {
  await assert.rejects(
    get(await identityOf("bus", { client: false }), port),
    /unsupported certificate|ECONNRESET|socket hang up/,
  );
  const wrong = await serve(await identityOf("core-data", { server: false }));
  await assert.rejects(get(await identityOf("bus"), wrong.port), { code: "INVALID_PURPOSE" });
});

test("another service at the expected address is refused by its name, and so is the same service of another node", async () => {
  const bus = await identityOf("bus");
  await assert.rejects(get(bus, port, "core-command"), {
    code: "IDENTITY_PEER_OTHER",
    message: /core-command was expected, spiffe:\/\/edge1\/service\/core-data answered/,
  });
  const elsewhere = await serve(await identityOf("core-data", { node: "edge2" }));
  await assert.rejects(get(bus, elsewhere.port), { code: "IDENTITY_PEER_OTHER", message: /spiffe:\/\/edge2/ });
  assert.equal((await get(bus, elsewhere.port, { node: "edge2", service: "core-data" })).caller, "bus");
});

test("an expired certificate is refused on both sides", async () => {
  // Signed by the same authority while its clock was an hour behind.
  const behind = { ...clock, wallMs: () => clock.wallMs() - 3_600_000 };
  const keyPkcs8 = await authority.exportKey();
  const by = await loadAuthority({ certPem: authority.certPem, keyPkcs8, clock: behind });
  const past = { by, lifetimeMs: 60_000 };
  await assert.rejects(get(await identityOf("bus", past), port), /certificate expired|ECONNRESET|socket hang up/);
  const old = await serve(await identityOf("core-data", past));
  await assert.rejects(get(await identityOf("bus"), old.port), { code: "CERT_HAS_EXPIRED" });
});

test("TLS 1.2 is refused, before and after a renewal", async () => {
  const { certPem, keyPem } = await certify(authority, spiffeName(node, "bus"));
  const renewed = await identityOf("core-data");
  const own = await serve(renewed);
  for (let round = 0; round < 2; round++) {
    const client = { cert: certPem, key: keyPem, maxVersion: "TLSv1.2" } as const;
    await assert.rejects(raw(own.port, client), /protocol version|ECONNRESET/);
    assert.equal((await raw(own.port, { cert: certPem, key: keyPem })).protocol, "TLSv1.3");
    renewed.update(await certify(authority, spiffeName(node, "core-data")));
  }
});

test("no session is resumed, so that every connection is verified anew", async () => {
  const bus = await identityOf("bus");
  const { secureContext } = bus.clientOptions("core-data");
  let session: Buffer | undefined;
  const ask = async (): Promise<boolean> => {
    const socket = connect({ host: "127.0.0.1", port, ...bus.clientOptions("core-data"), secureContext, session });
    socket.on("session", (ticket) => (session = ticket));
    socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await once(socket, "data");
    const resumed = socket.isSessionReused();
    socket.destroy();
    return resumed;
  };
  await ask();
  assert.equal(await ask(), false);
});

test("where callers without a certificate are let in, an unverified one has no name", async () => {
  const open = await serve(coreData, { rejectUnauthorized: false });
  const { certPem, keyPem } = await certify(stranger, spiffeName(node, "gateway"));
  assert.match((await raw(open.port, {})).text, /"caller":"nobody"/);
  assert.match((await raw(open.port, { cert: certPem, key: keyPem })).text, /"caller":"nobody"/);
  assert.equal((await get(await identityOf("bus"), open.port)).caller, "bus");
});

test("renewing both sides under load fails no request, and new connections get the new certificate", async () => {
  const renewed = await identityOf("core-data", { connectionAgeMsMax: 20 });
  const own = await serve(renewed);
  const bus = await identityOf("bus", { connectionAgeMsMax: 20 });
  const stopping = new AbortController();
  let answers = 0;
  let fresh = 0;
  const worker = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      const { caller, reused } = await get(bus, own.port);
      assert.equal(caller, "bus");
      answers++;
      if (!reused) fresh++;
    }
  };
  const workers = Array.from({ length: 8 }, worker);
  for (let round = 0; round < 12; round++) {
    const [mine, theirs] = await Promise.all([
      certify(authority, spiffeName(node, "core-data")),
      certify(authority, spiffeName(node, "bus")),
    ]);
    renewed.update(mine);
    bus.update(theirs);
    const socket = connect({ host: "127.0.0.1", port: own.port, ...bus.clientOptions("core-data") });
    await once(socket, "secureConnect");
    assert.equal(peerName(socket)?.serial, mine.serial);
    socket.destroy();
  }
  stopping.abort();
  await Promise.all(workers);
  assert.ok(answers > 100 && fresh > 12, `${answers} answers over ${fresh} connections`);
});

test("a connection is used again while it is young, and closed after an answer when it is old", async () => {
  const bus = await identityOf("bus", { connectionAgeMsMax: 60_000 });
  assert.equal((await get(bus, port)).reused, false);
  assert.equal((await get(bus, port)).reused, true);
  const hasty = await identityOf("bus", { connectionAgeMsMax: 0.001 });
  await get(hasty, port);
  assert.equal((await get(hasty, port)).reused, false);
  // The server's own limit, for clients that have none.
  const short = await serve(await identityOf("core-data", { connectionAgeMsMax: 0.001 }));
  const patient = await identityOf("bus");
  assert.equal((await get(patient, short.port)).lastAnswer, true);
  assert.equal((await get(patient, short.port)).reused, false);
});

test("an open connection is cut when the certificate it was opened with ends", async () => {
  const plain = createTlsServer(coreData.serverOptions());
  coreData.attach(plain);
  await once(plain.listen(0, "127.0.0.1"), "listening");
  closing.push(() => plain.close());
  const brief = await identityOf("bus", { lifetimeMs: 600 });
  const socket = connect({
    host: "127.0.0.1",
    port: (plain.address() as AddressInfo).port,
    ...brief.clientOptions("core-data"),
  });
  await once(socket, "secureConnect");
  const endsMs = brief.certificate?.notAfterMs ?? 0;
  socket.on("error", () => undefined).resume();
  await once(socket, "close");
  assert.ok(Date.now() >= endsMs - 5 && Date.now() < endsMs + 1000);
});

test("a certificate that is not ours or not the key's is not taken, and the old one stays", async () => {
  const identity = await identityOf("bus");
  const before = identity.certificate;
  const other = await certify(authority, spiffeName(node, "core-data"));
  const mine = await certify(authority, spiffeName(node, "bus"));
  for (const wrong of [
    other,
    { ...mine, keyPem: other.keyPem },
    { ...mine, certPem: "nonsense" },
    { ...mine, keyPem: "" },
  ]) {
    assert.throws(() => identity.update(wrong), { code: "IDENTITY_CERTIFICATE_INVALID" });
  }
  assert.deepEqual(identity.certificate, before);
  assert.equal((await get(identity, port)).caller, "bus");
  const none = new TlsIdentity({ node, service: "bus", caPem: authority.certPem });
  for (const use of [() => none.serverOptions(), () => none.clientOptions("core-data")])
    assert.throws(use, { code: "IDENTITY_NOT_READY" });
});

test("a server that is closed is no longer renewed", async () => {
  const identity = await identityOf("core-data");
  const own = await serve(identity);
  assert.equal(identity.listenerCount("renewed"), 1);
  own.server.close();
  await once(own.server, "close");
  assert.equal(identity.listenerCount("renewed"), 0);
  assert.ok(server.listening);
});
