import "../../kernel/identity/reflect.ts";
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { get } from "node:https";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, test } from "node:test";
import { X509CertificateGenerator } from "@peculiar/x509";
import { Failure } from "../../kernel/error.ts";
import { attempt } from "./libc.ts";
import { listenTcp, listenUnix } from "./listen.ts";

const directory = mkdtempSync(join(tmpdir(), "holdfast-listen-"));
after(() => rmSync(directory, { recursive: true, force: true }));

/** Fails unless `action` fails with this code and names each of the words. */
function refuses(action: () => unknown, code: string, ...words: string[]): void {
  assert.throws(action, (error) => {
    assert.ok(error instanceof Failure, String(error));
    assert.equal(error.code, code);
    for (const word of words) assert.ok(error.message.includes(word), error.message);
    return true;
  });
}

async function certificate(): Promise<{ key: string; cert: string }> {
  const keys = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  const made = await X509CertificateGenerator.createSelfSigned({
    name: "CN=service",
    keys,
    signingAlgorithm: { name: "ECDSA", hash: "SHA-256" },
    notAfter: new Date(Date.now() + 86_400_000),
  });
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
  return { key: `-----BEGIN PRIVATE KEY-----\n${pkcs8}\n-----END PRIVATE KEY-----`, cert: made.toString("pem") };
}

const SERVICE = `
  const { key, cert, name } = JSON.parse(require("node:fs").readFileSync(4, "utf8"));
  const server = require("node:https").createServer({ key, cert }, (_request, response) => response.end(name));
  server.listen({ fd: 3 }, () => process.stdout.write("up"));
`;
function service(fd: number, name: string, pem: object): ChildProcess {
  const child = spawn(process.execPath, ["-e", SERVICE], { stdio: ["ignore", "pipe", "inherit", fd, "pipe"] });
  (child.stdio[4] as NodeJS.WritableStream).end(JSON.stringify({ ...pem, name }));
  return child;
}
const ask = (port: number): Promise<string> =>
  new Promise((resolve, reject) => {
    get({ port, rejectUnauthorized: false, agent: false }, (response) => resolve(text(response))).once("error", reject);
  });

test("questions asked before a service is up, and between its death and its successor, wait and are answered", async () => {
  const pem = await certificate();
  const { fd, port } = listenTcp({ host: "127.0.0.1", port: 0 });
  const early = [ask(port), ask(port), ask(port)];
  const first = service(fd, "first", pem);
  assert.deepEqual(await Promise.all(early), ["first", "first", "first"]);
  first.kill("SIGKILL");
  await once(first, "exit");
  const between = [ask(port), ask(port)];
  const second = service(fd, "second", pem);
  assert.deepEqual(await Promise.all(between), ["second", "second"]);
  assert.equal(await ask(port), "second");
  second.kill("SIGKILL");
  await once(second, "exit");
  closeSync(fd);
});

test("a listening socket is not inherited by programs that it is not handed to", () => {
  const { fd } = listenTcp({ host: "127.0.0.1", port: 0 });
  const [F_GETFD, FD_CLOEXEC] = [1, 1];
  assert.equal(attempt("fcntl", fd, F_GETFD, 0) & FD_CLOEXEC, FD_CLOEXEC);
  closeSync(fd);
});

test(
  "IPv6 listens on its address, and :: on those of IPv4 too",
  { skip: readFileSync("/proc/net/protocols", "utf8").includes("TCPv6") ? false : "no IPv6 here" },
  async () => {
    for (const [host, from] of [
      ["::1", "::1"],
      ["::", "127.0.0.1"],
    ] as const) {
      const { fd, port } = listenTcp({ host, port: 0 });
      const socket = connect(port, from);
      await once(socket, "connect");
      socket.destroy();
      closeSync(fd);
    }
  },
);

test("a port in use, a port that is not allowed and an address that is not here are told apart, with the address", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const { port } = taken.address() as { port: number };
  refuses(() => listenTcp({ host: "127.0.0.1", port }), "NODE_PORT_IN_USE", `127.0.0.1:${port}`);
  taken.close();
  refuses(() => listenTcp({ host: "203.0.113.7", port: 0 }), "NODE_ADDRESS_UNKNOWN", "203.0.113.7:0");
  refuses(() => listenTcp({ host: "edge.example", port: 59_880 }), "NODE_ADDRESS_UNKNOWN", "edge.example");
  refuses(() => listenTcp({ host: "fe80::1%nowhere", port: 0 }), "NODE_ADDRESS_UNKNOWN", "nowhere");
  refuses(() => listenTcp({ host: "127.0.0.1", port: 70_000 }), "NODE_ADDRESS_UNKNOWN", "70000", "65535");
  if (process.getuid?.() !== 0 && Number(readFileSync("/proc/sys/net/ipv4/ip_unprivileged_port_start", "utf8")) > 80)
    refuses(() => listenTcp({ host: "127.0.0.1", port: 80 }), "NODE_PORT_FORBIDDEN", "127.0.0.1:80");
});

test("a Unix socket is never wider than its owner, replaces a dead one, and leaves a living one and a file alone", async () => {
  const path = join(directory, "node.sock");
  const before = process.umask(0);
  const { fd } = listenUnix(path);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(process.umask(before), 0, "the umask is as it was");
  const socket = connect(path);
  await once(socket, "connect");
  refuses(() => listenUnix(path), "NODE_SOCKET_IN_USE", path);
  socket.destroy();
  closeSync(fd);
  closeSync(listenUnix(path, 0o660).fd);
  assert.equal(statSync(path).mode & 0o777, 0o660);
  writeFileSync(join(directory, "file"), "precious");
  refuses(() => listenUnix(join(directory, "file")), "NODE_SOCKET_UNUSABLE", "not a socket");
  assert.equal(readFileSync(join(directory, "file"), "utf8"), "precious");
  refuses(() => listenUnix(join(directory, "x".repeat(120))), "NODE_SOCKET_UNUSABLE", "107");
  refuses(() => listenUnix(join(directory, "nowhere/node.sock")), "NODE_SOCKET_UNUSABLE", "nowhere");
});
