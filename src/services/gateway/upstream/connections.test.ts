/** Who gets a connection where there are fewer than requests. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import { type Clock, systemClock } from "../../../kernel/clock.ts";
import type { Failure } from "../../../kernel/error.ts";
import { GATEWAY_BUSY } from "../api.ts";
import { Ticket } from "../ticket.ts";
import type { Connection } from "./connection.ts";
import { Connections } from "./connections.ts";
import { Endpoint } from "./endpoint.ts";

/** To one instance. */
const CONNECTIONS = 128;
const WAITING = 1_024;
const CROWD_MS = 50;

/** All connections there may be to a server that answers when it is told to. */
async function allTaken(t: TestContext) {
  const turned = { ms: 0 };
  const clock: Clock = { ...systemClock, monotonicMs: () => turned.ms };
  const asked: ServerResponse[] = [];
  const server = createServer((_request, response) => void asked.push(response)).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const address = { service: "slow", instance: "one", host: "127.0.0.1", port, security: "plain" as const };
  const endpoint = new Endpoint(address, 0);
  const identity = { certificate: undefined, clientOptions: () => ({}), watch: () => undefined };
  const connections = new Connections({ identity, clock });
  const ticket = () => new Ticket({ timeoutMs: 60_000, clock });
  const take = async () => connections.take(endpoint, ticket());
  const all = await Promise.all(Array.from({ length: CONNECTIONS }, take));
  t.after(() => {
    connections.close();
    for (const each of all) each.cut();
    server.close();
  });
  /** Asks by it, and is answered: it is free. */
  const use = async (connection: Connection) => {
    const answer = connection.send({ head: "GET / HTTP/1.1\r\nhost: x\r\n\r\n", body: undefined }, ticket());
    await once(server, "request");
    asked.pop()!.end();
    await answer;
  };
  return { turned, take, use, all };
}

test("who waits for a connection gets it in turn; where the first has waited for long the last come first", async (t) => {
  const { turned, take, use, all } = await allTaken(t);
  const got: string[] = [];
  const wait = async (name: string) => {
    const connection = await take();
    got.push(name);
    return connection;
  };
  const [first, second] = [wait("first"), wait("second")];
  await use(all[0]);
  await use(await first);
  const free = await second;
  const third = wait("third");
  turned.ms += 1;
  const fourth = wait("fourth");
  assert.deepEqual(got, ["first", "second"]);
  turned.ms += CROWD_MS;
  await use(free);
  await use(await fourth);
  await third;
  assert.deepEqual(got, ["first", "second", "fourth", "third"]);
});

test("as many wait as may: one more is refused, and in a crowd the one that has waited longest is", async (t) => {
  const { turned, take, use, all } = await allTaken(t);
  const refusal = async (taken: Promise<Connection>) =>
    taken.then(
      () => "taken",
      (error: Failure) => error.code,
    );
  const first = refusal(take());
  const others = Array.from({ length: WAITING - 1 }, () => refusal(take()));
  assert.equal(await refusal(take()), GATEWAY_BUSY.code);
  turned.ms += CROWD_MS + 1;
  const last = refusal(take());
  assert.equal(await first, GATEWAY_BUSY.code);
  await use(all[0]);
  assert.equal(await last, "taken");
  assert.equal(others.length, WAITING - 1);
});
