import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "../../kernel/clock.ts";
import { createAuthority } from "../../kernel/identity/authority.ts";
import { spiffeName } from "../../kernel/identity/names.ts";
import { makeKeyAndRequest } from "../../kernel/identity/request.ts";
import type { Cloud } from "../cloud/api.ts";
import { edgeName, enrollWith } from "./enroll.ts";
import { openLink } from "./uplink/link.ts";
import { call, EDGE, events, startCloud, startNode, temporary, until } from "../../../test/houses/uplink.ts";
import { Wire } from "../../../test/houses/wire.ts";

const refused = (message: RegExp) => ({ code: "PIPELINE_ENROLL_FAILED", message });

test("a code enrolls one node, once; a wrong one and one that is too old enroll nobody", async (t) => {
  const directory = temporary(t);
  const cloud = await startCloud(directory);
  t.after(() => cloud.stop());
  const code = await cloud.code();
  const enrolled = await enrollWith(cloud.url, `  ${code}\n`, EDGE, call());
  assert.equal(enrolled.cloud, "cloud");
  assert.ok(new X509Certificate(enrolled.certPem).subjectAltName?.includes("spiffe://cloud/service/edge.edge1"));
  await assert.rejects(enrollWith(cloud.url, code, EDGE, call()), refused(/wrong, used or too old/));
  const fingerprint = code.split(".")[1];
  await assert.rejects(enrollWith(cloud.url, `guess.${fingerprint}`, EDGE, call()), refused(/wrong, used or too old/));
  await assert.rejects(enrollWith(cloud.url, "half", EDGE, call()), refused(/SECRET\.FINGERPRINT/));
  const old = await cloud.cli.newCode({ body: { lifetimeS: 1 } }, call());
  await until("the code is too old", () => Date.now() > old.expiresAtMs);
  await assert.rejects(enrollWith(cloud.url, old.code, EDGE, call()), refused(/wrong, used or too old/));
  assert.equal((await cloud.cli.edges({}, call())).edges.length, 1);
});

test("one code that two nodes use at the same time enrolls one of them", async (t) => {
  const cloud = await startCloud(temporary(t));
  t.after(() => cloud.stop());
  const code = await cloud.code();
  const tries = await Promise.allSettled(["a", "b", "c", "d"].map((edge) => enrollWith(cloud.url, code, edge, call())));
  assert.equal(tries.filter(({ status }) => status === "fulfilled").length, 1);
  assert.equal((await cloud.cli.edges({}, call())).edges.length, 1);
});

test("a request that cannot be certified uses up no code", async (t) => {
  const cloud = await startCloud(temporary(t));
  t.after(() => cloud.stop());
  const code = await cloud.code();
  const stranger = cloud.as("");
  await assert.rejects(stranger.enroll({ body: { edge: EDGE, code, csrPem: "no request" } }, call()), {
    code: "IDENTITY_REQUEST_INVALID",
  });
  await enrollWith(cloud.url, code, EDGE, call());
});

test("a cloud other than the code's is never told the secret, whatever it shows", async (t) => {
  const directory = temporary(t);
  const heard: string[] = [];
  const real = await startCloud(join(directory, "real"));
  t.after(() => real.stop());
  const { caPem } = await real.as("").authority({}, call());
  let shown = "";
  const wrap = (service: Cloud): Cloud => ({
    ...service,
    authority: async () => ({ node: "cloud", caPem: shown }),
    async enroll(input, of) {
      heard.push(input.body.code);
      return service.enroll(input, of);
    },
  });
  const other = await startCloud(join(directory, "other"), { wrap });
  t.after(() => other.stop());
  const own = (await other.as("").authority({}, call())).caPem;
  const code = await real.code();
  const cases: [string, RegExp][] = [
    [own, /is not the cloud the code is from/],
    [own + caPem, /is not the cloud the code is from/],
    // The authority's certificate is no secret: shown by a stranger it fits the fingerprint, and what comes behind it must not be trusted.
    [caPem, /cannot be reached|did not enroll/],
    [caPem + own, /cannot be reached|did not enroll/],
    ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", /cannot be read/],
  ];
  for (const [pem, message] of cases) {
    shown = pem;
    await assert.rejects(enrollWith(other.url, code, EDGE, call()), refused(message));
  }
  assert.deepEqual(heard, []);
  await enrollWith(real.url, code, EDGE, call());
});

test("somebody whom the cloud has enrolled cannot stand in for it", async (t) => {
  const cloud = await startCloud(temporary(t));
  t.after(() => cloud.stop());
  const enrollment = await enrollWith(cloud.url, await cloud.code(), "thief", call());
  const { createServer } = await import("node:tls");
  const seen: string[] = [];
  const server = createServer({ cert: enrollment.certPem, key: enrollment.keyPem, minVersion: "TLSv1.3" }, (socket) => {
    socket.on("data", (chunk) => seen.push(chunk.toString()));
    socket.on("error", () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const { port } = server.address() as { port: number };
  const link = openLink({ ...enrollment, url: `https://127.0.0.1:${port}` }, systemClock);
  t.after(() => link.close());
  await assert.rejects(link.mark("normal", 1, AbortSignal.timeout(5_000)), { code: "UNAVAILABLE" });
  assert.deepEqual(seen, []);
});

test("a certificate that the cloud's authority has not signed, or another's, is no enrollment", async (t) => {
  const directory = temporary(t);
  const foreign = await createAuthority({ node: "cloud", clock: systemClock });
  let name = spiffeName("cloud", `edge.${EDGE}`);
  const wrap = (service: Cloud): Cloud => ({
    ...service,
    async enroll({ body }) {
      const issued = await foreign.issue({
        csrPem: body.csrPem,
        name,
        dns: [],
        ips: [],
        lifetimeMs: 1e9,
        client: true,
        server: false,
      });
      return { certPem: issued.certPem, caPem: foreign.certPem, notAfterMs: issued.notAfterMs };
    },
  });
  const cloud = await startCloud(directory, { wrap });
  t.after(() => cloud.stop());
  await assert.rejects(enrollWith(cloud.url, await cloud.code(), EDGE, call()), refused(/has not signed/));
  name = spiffeName("cloud", "edge.other");
  await assert.rejects(
    enrollWith(cloud.url, await cloud.code(), EDGE, call()),
    refused(/is not one of spiffe:\/\/cloud\/service\/edge\.edge1/),
  );
});

test("who tries many wrong codes is told to wait, and keeps nobody with a right one out", async (t) => {
  const cloud = await startCloud(temporary(t));
  t.after(() => cloud.stop());
  const stranger = cloud.as("");
  const { csrPem } = await makeKeyAndRequest(spiffeName("cloud", "edge.x"));
  const guess = (n: number) => stranger.enroll({ body: { edge: "x", code: `guess ${n}`, csrPem } }, call());
  for (let n = 0; n < 20; n++)
    await assert.rejects(guess(n), { code: "CLOUD_CODE_REFUSED", message: /wrong, used or too old/ });
  await assert.rejects(guess(20), { code: "CLOUD_CODE_REFUSED", message: /too many wrong codes/, retryAfterS: 60 });
  await enrollWith(cloud.url, await cloud.code(), EDGE, call());
});

test("what is no cloud is told apart: nobody listens, another protocol, an answer that never ends", async (t) => {
  const cloud = await startCloud(temporary(t));
  t.after(() => cloud.stop());
  const code = await cloud.code();
  const wire = await Wire.open(cloud.port);
  t.after(() => wire.close());
  wire.mode = "cut";
  await assert.rejects(enrollWith(wire.url, code, EDGE, call()), refused(/cannot be reached/));
  wire.mode = "silent";
  await assert.rejects(enrollWith(wire.url, code, EDGE, call(300)), refused(/did not answer|was not waited for/));
  await assert.rejects(enrollWith("https://127.0.0.1:1", code, EDGE, call()), refused(/ECONNREFUSED/));
  await assert.rejects(enrollWith("https://[", code, EDGE, call()), refused(/no address/));
});

test("a node enrolls again, and its events go on where they were", async (t) => {
  const directory = temporary(t);
  const cloud = await startCloud(join(directory, "cloud"));
  t.after(() => cloud.stop());
  const node = await startNode(join(directory, "node"));
  t.after(() => node.stop());
  await node.enroll(cloud.url, await cloud.code());
  await node.append("device-a", events("device-a", 1, 10));
  await until("the first are there", async () => (await node.destination()).acknowledged.events === 10);
  await node.enroll(cloud.url, await cloud.code());
  await assert.rejects(node.enroll(cloud.url, "no code"), { code: "PIPELINE_ENROLL_FAILED" });
  await node.append("device-a", events("device-a", 11, 20));
  await until("all are there", async () => (await node.destination()).acknowledged.events === 20);
  const { publishers } = await cloud.audit();
  assert.deepEqual(
    publishers.map(({ duplicates, outOfOrder, ranges }) => ({ duplicates, outOfOrder, ranges })),
    [{ duplicates: 0, outOfOrder: 0, ranges: [{ from: 1, to: 20 }] }],
  );
});

test("another cloud gets what waits, and nothing that the one before it has acknowledged", async (t) => {
  const directory = temporary(t);
  const [first, second] = [
    await startCloud(join(directory, "first")),
    await startCloud(join(directory, "second"), { name: "other" }),
  ];
  t.after(() => second.stop());
  const node = await startNode(join(directory, "node"));
  t.after(() => node.stop());
  await node.enroll(first.url, await first.code());
  await node.append("device-a", events("device-a", 1, 10));
  await until("the first are there", async () => (await node.destination()).acknowledged.events === 10);
  await first.stop();
  await node.append("device-a", events("device-a", 11, 20));
  await node.enroll(second.url, await second.code());
  await until("the rest is there", async () => (await node.destination()).acknowledged.events === 20);
  assert.deepEqual((await second.audit()).publishers[0].ranges, [{ from: 11, to: 20 }]);
  assert.deepEqual((await node.pipeline.status({}, call())).losses, []);
});

test("a certificate is renewed at a third of its life, over the connection that it is for; a cloud that does not renew still gets all", async (t) => {
  const directory = temporary(t);
  let isBroken = true;
  const wrap = (service: Cloud): Cloud => ({
    ...service,
    renew: async (input, of) => (isBroken ? Promise.reject(new Error("out of paper")) : service.renew(input, of)),
  });
  const cloud = await startCloud(join(directory, "cloud"), { nodeCertificateDays: 30, wrap });
  t.after(() => cloud.stop());
  const skew = { ms: 0, monotonicMs: 0 };
  const clock = {
    wallMs: () => Date.now() + skew.ms,
    wallNs: () => systemClock.wallNs() + BigInt(skew.ms) * 1_000_000n,
    monotonicMs: () => performance.now() + skew.monotonicMs,
  };
  const node = await startNode(join(directory, "node"), {}, clock);
  t.after(() => node.stop());
  await node.enroll(cloud.url, await cloud.code());
  const renewals = (msg: RegExp) => node.lines.filter((line) => msg.test(String(line["msg"]))).length;
  const sendOne = async (n: number) => {
    await node.append("device-a", events("device-a", n, n));
    await until(`event ${n} is there`, async () => (await node.destination()).acknowledged.events === n);
  };
  await sendOne(1);
  assert.equal(renewals(/renewed/), 0);
  skew.ms = 11 * 86_400_000;
  await sendOne(2);
  await sendOne(3);
  await sendOne(4);
  assert.equal(renewals(/could not be renewed yet/), 1, "it is not tried with each batch");
  assert.equal((await node.destination()).state, "idle");
  isBroken = false;
  skew.monotonicMs = 61_000;
  await sendOne(5);
  await sendOne(6);
  await until("it is renewed", () => renewals(/was renewed/) === 1);
  assert.equal(renewals(/could not be renewed yet/), 1);
});

test("any name of a node becomes one that clouds take", () => {
  assert.equal(edgeName("Edge 7.local"), "edge-7-local");
  assert.equal(edgeName("ärger"), "rger");
  assert.equal(edgeName("***"), "edge");
  assert.equal(edgeName("x".repeat(100)).length, 63);
});
