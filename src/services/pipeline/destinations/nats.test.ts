import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { createAccount, createOperator, createUser, type KeyPair } from "@nats-io/nkeys";
import { connect, credsAuthenticator, type NatsConnection } from "@nats-io/transport-node";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Broker, startNats } from "../../../../test/houses/brokers.ts";
import { need } from "../../../../test/need.ts";
import { parseJson } from "../../../kernel/json.ts";
import { batchOf, LIVE, makeTlsFiles, never, senderOf, temporary } from "./fixture.ts";
import type { Sender } from "./sender.ts";

const skip = need("nats");
const MINUTE_NS = 60_000_000_000;

async function open(t: TestContext, broker: Broker, config: object = {}): Promise<Sender> {
  const sender = await senderOf({ kind: "nats", url: `nats://127.0.0.1:${broker.port}`, timeoutMs: 5_000, ...config });
  t.after(() => sender.close());
  return sender;
}

/** NATS' own client: makes the stream and reads it. */
async function official(t: TestContext, broker: Broker, more: object = {}): Promise<NatsConnection> {
  const client = await connect({ servers: `127.0.0.1:${broker.port}`, reconnect: false, ...more });
  t.after(() => client.close());
  return client;
}

async function makeStream(client: NatsConnection, more: object = {}): Promise<void> {
  const manager = await jetstreamManager(client);
  await manager.streams.add({ name: "READINGS", subjects: ["holdfast.>"], duplicate_window: MINUTE_NS, ...more });
}

async function readStream(
  client: NatsConnection,
): Promise<{ subject: string; id: string; type: string; body: Uint8Array }[]> {
  const manager = await jetstreamManager(client);
  const { state } = await manager.streams.info("READINGS");
  const consumer = await jetstream(client).consumers.get("READINGS");
  const found = [];
  for (let n = 0; n < state.messages; n++) {
    const message = await consumer.next({ expires: 5_000 });
    assert.ok(message);
    const { headers, subject, data } = message;
    found.push({
      subject,
      id: headers?.get("Nats-Msg-Id") ?? "",
      type: headers?.get("Content-Type") ?? "",
      body: data,
    });
  }
  return found;
}

test(
  "every event is a message of the stream, in order, and one that is sent twice is kept once",
  { skip },
  async (t) => {
    const broker = await startNats(t, temporary(t));
    const client = await official(t, broker);
    await makeStream(client);
    const batches = [1, 2, 3].map((n) => batchOf(n, { events: 10, devices: ["a", "b.c *"] }));
    assert.deepEqual(await (await open(t, broker)).send(LIVE, batches, never), { durable: 3, refused: [] });
    // Another process after a kill knows nothing of the first one's acknowledgements.
    const again = await open(t, broker, { stream: "READINGS" });
    assert.deepEqual(await again.send(LIVE, batches, never), { durable: 3, refused: [] });
    assert.ok(again.bytes.sent > 5_000 && again.bytes.received > 1_000);
    const kept = await readStream(client);
    assert.equal(kept.length, 30);
    assert.deepEqual(
      kept.slice(0, 2).map(({ subject, id, type }) => [subject, id, type]),
      [
        ["holdfast.node-1.a.All", "node-1.there.normal.5.1.0", "application/json"],
        ["holdfast.node-1.b%2Ec%20%2A.All", "node-1.there.normal.5.1.1", "application/json"],
      ],
    );
    const origins = kept.map(({ body }) => (parseJson(body) as { origin: bigint }).origin);
    assert.deepEqual(
      origins,
      origins.toSorted((a, b) => Number(a - b)),
    );
  },
);

test("a stream that is missing, or is another, is said in words that help, and tried again", { skip }, async (t) => {
  const broker = await startNats(t, temporary(t));
  const sender = await open(t, broker);
  await assert.rejects(sender.send(LIVE, [batchOf(1)], never), {
    code: "UNAVAILABLE",
    message: /no JetStream stream takes the subject 'holdfast\.node-1\.a\.All'/,
  });
  const client = await official(t, broker);
  await makeStream(client, { max_msg_size: 2_000 });
  const other = await open(t, broker, { stream: "OTHER" });
  await assert.rejects(other.send(LIVE, [batchOf(1)], never), { code: "UNAVAILABLE", message: /expects 'OTHER'/ });
  assert.deepEqual(await sender.send(LIVE, [batchOf(1)], never), { durable: 1, refused: [] });
  const lists = await open(t, broker, { shape: "events", subject: "holdfast.all" });
  const { durable, refused } = await lists.send(LIVE, [batchOf(2, { events: 20 }), batchOf(4)], never);
  assert.equal(durable, 4);
  assert.match(refused[0].reason, /message size exceeds/);
});

test("over TLS with client certificates, and not without where the config asks for it", { skip }, async (t) => {
  const directory = temporary(t);
  const files = await makeTlsFiles(directory);
  const broker = await startNats(t, directory, { tls: files });
  const [ca, cert, key] = [files.ca, files.clientCert, files.clientKey].map((file) => readFileSync(file, "utf8"));
  const client = await official(t, broker, { tls: { ca, cert, key } });
  await makeStream(client);
  const url = `tls://127.0.0.1:${broker.port}`;
  const tls = { caFile: files.ca, certFile: files.clientCert, keyFile: files.clientKey };
  assert.equal((await (await open(t, broker, { url, tls })).send(LIVE, [batchOf(1)], never)).durable, 1);
  await assert.rejects((await open(t, broker)).send(LIVE, [batchOf(1)], never), { message: /wants TLS/ });
  await assert.rejects((await open(t, broker, { url })).send(LIVE, [batchOf(1)], never), { code: "UNAVAILABLE" });
  const plain = await startNats(t, temporary(t));
  const asking = await open(t, plain, { url: `tls://127.0.0.1:${plain.port}`, tls });
  await assert.rejects(asking.send(LIVE, [batchOf(1)], never), { message: /has no TLS/ });
});

test("who may is known by password, token or credentials file", { skip }, async (t) => {
  const directory = temporary(t);
  const secret = join(directory, "secret");
  writeFileSync(secret, "s3cret\n");
  const user = await startNats(t, directory, { lines: ['authorization { user: "me", password: "s3cret" }'] });
  const client = await official(t, user, { user: "me", pass: "s3cret" });
  await makeStream(client);
  const sender = await open(t, user, { username: "me", passwordFile: secret });
  assert.equal((await sender.send(LIVE, [batchOf(1)], never)).durable, 1);
  await assert.rejects((await open(t, user)).send(LIVE, [batchOf(1)], never), {
    code: "UNAVAILABLE",
    message: /Authorization/,
  });
  const token = await startNats(t, temporary(t), { lines: ['authorization { token: "s3cret" }'] });
  await makeStream(await official(t, token, { token: "s3cret" }));
  assert.equal((await (await open(t, token, { tokenFile: secret })).send(LIVE, [batchOf(1)], never)).durable, 1);
});

/** A JWT as NATS signs them, with the issuer's key. */
function jwtOf(issuer: KeyPair, subject: KeyPair, name: string, nats: object): string {
  const part = (value: object | Uint8Array) =>
    Buffer.from(value instanceof Uint8Array ? value : JSON.stringify(value)).toString("base64url");
  const claims = { jti: name, iat: 1_700_000_000, iss: issuer.getPublicKey(), sub: subject.getPublicKey(), name, nats };
  const text = `${part({ typ: "JWT", alg: "ed25519-nkey" })}.${part(claims)}`;
  return `${text}.${part(issuer.sign(Buffer.from(text)))}`;
}

const credentialsOf = (jwt: string, signer: KeyPair) =>
  [
    `-----BEGIN NATS USER JWT-----\n${jwt}\n------END NATS USER JWT------\n`,
    `-----BEGIN USER NKEY SEED-----\n${Buffer.from(signer.getSeed()).toString()}\n------END USER NKEY SEED------\n`,
  ].join("\n");

test("a server of accounts lets in whom the credentials file proves to be, and nobody else", { skip }, async (t) => {
  const directory = temporary(t);
  const [operator, account, user] = [createOperator(), createAccount(), createUser()];
  const any = { subs: -1, data: -1, payload: -1 };
  const limits = { ...any, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };
  const storage = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 };
  const plant = { limits: { ...limits, ...storage }, type: "account", version: 2 };
  const accountJwt = jwtOf(operator, account, "plant", plant);
  const operatorJwt = jwtOf(operator, operator, "us", { type: "operator", version: 2 });
  const userJwt = jwtOf(account, user, "site-7", { ...any, type: "user", version: 2 });
  const [mine, forged] = ["mine.creds", "forged.creds"].map((name) => join(directory, name));
  writeFileSync(mine, credentialsOf(userJwt, user));
  writeFileSync(forged, credentialsOf(userJwt, createUser()));
  const system = createAccount();
  const systemJwt = jwtOf(operator, system, "system", { limits, type: "account", version: 2 });
  const known = [`${account.getPublicKey()}: "${accountJwt}"`, `${system.getPublicKey()}: "${systemJwt}"`];
  const lines = [
    `operator: "${operatorJwt}"`,
    "resolver: MEMORY",
    `system_account: ${system.getPublicKey()}`,
    `resolver_preload: { ${known.join(", ")} }`,
  ];
  const broker = await startNats(t, directory, { lines });
  const authenticator = credsAuthenticator(readFileSync(mine));
  await makeStream(await official(t, broker, { authenticator }));
  const sender = await open(t, broker, { credentialsFile: mine });
  assert.equal((await sender.send(LIVE, [batchOf(1)], never)).durable, 1);
  const other = await open(t, broker, { credentialsFile: forged });
  await assert.rejects(other.send(LIVE, [batchOf(1)], never), { code: "UNAVAILABLE", message: /Authorization/ });
});

test(
  "a server that is killed and comes back gets what it had not acknowledged; one that hangs costs the timeout",
  { skip },
  async (t) => {
    const broker = await startNats(t, temporary(t));
    await makeStream(await official(t, broker));
    const sender = await open(t, broker, { timeoutMs: 500 });
    assert.equal((await sender.send(LIVE, [batchOf(1)], never)).durable, 1);
    broker.signal("SIGSTOP");
    await assert.rejects(sender.send(LIVE, [batchOf(2)], never), {
      code: "UNAVAILABLE",
      message: /no acknowledgement/,
    });
    broker.signal("SIGCONT");
    assert.equal((await sender.send(LIVE, [batchOf(2)], never)).durable, 2);
    await broker.kill();
    await assert.rejects(sender.send(LIVE, [batchOf(3)], never), { code: "UNAVAILABLE" });
    await broker.start();
    assert.equal((await sender.send(LIVE, [batchOf(3)], never)).durable, 3);
    assert.equal((await readStream(await official(t, broker))).length, 6);
  },
);
