/** A stranger at the gateway's door: sends bytes over a raw TLS connection, and holds that what is refused was never forwarded. */
import assert from "node:assert/strict";
import { after, before, beforeEach } from "node:test";
import { type GatewayHouse, type RawAnswer, RawClient, startGateway } from "./gateway.ts";

/** The status and code of what is malformed. */
export const REFUSED = [400, "GATEWAY_REQUEST_REFUSED"] as const;
/** A request up to its headers. */
export const SAY = "GET /echo/api/v3/say/hello HTTP/1.1\r\n";
export const JSON_FIELD = "Content-Type: application/json\r\n";

export class Stranger {
  house!: GatewayHouse;
  #token = "";
  #former = 0;

  /** For the whole test file: starts the gateway before its tests, and stops it after them. */
  constructor() {
    before(async () => {
      this.house = await startGateway({ headersTimeoutMs: 500, requestTimeoutMs: 900, bodyBytesMax: 2_000 });
      await this.house.echo();
      this.#token = await this.house.token();
    });
    after(() => this.house.stop());
    beforeEach(() => this.forget());
  }

  get auth(): string {
    return `Authorization: Bearer ${this.#token}\r\n`;
  }

  /** A request that must not be taken for one. */
  get smuggled(): string {
    return `GET /echo/api/v3/say/smuggled HTTP/1.1\r\nHost: x\r\n${this.auth}\r\n`;
  }

  write(fields: string, body: string): string {
    return `POST /echo/api/v3/write HTTP/1.1\r\nHost: x\r\n${this.auth}${JSON_FIELD}${fields}\r\n${body}`;
  }

  /** Sends bytes on a new connection and gives the answer. */
  async ask(bytes: string): Promise<RawAnswer> {
    const client = await RawClient.open(this.house);
    const answer = await client.send(bytes).answer();
    client.socket.destroy();
    return answer;
  }

  /** Sends bytes, expects a refusal, and that the connection is closed where more could be made of what follows. */
  async refused(bytes: string, [status, code]: readonly [number, string] = REFUSED, closes = true): Promise<RawAnswer> {
    const client = await RawClient.open(this.house);
    const answer = await client.send(bytes).answer();
    assert.deepEqual(
      [answer.status, answer.status && codeOf(answer)],
      [status, code],
      JSON.stringify(bytes.slice(0, 200)),
    );
    if (closes) assert.equal((await client.end()).includes("HTTP/1.1 2"), false, "nothing else was answered");
    client.socket.destroy();
    this.assertNotForwarded();
    return answer;
  }

  /** What was forwarded until now was meant to be. */
  forget(): void {
    this.#former = this.#asked();
  }

  /** Holds that since the test began, or since `forget`, the service behind the gateway was asked nothing, as its traces tell. */
  assertNotForwarded(): void {
    assert.equal(this.#asked(), this.#former, "nothing was forwarded");
  }

  #asked(): number {
    return this.house.lines.filter(
      (l) => l["service"] === "gateway" && l["upstream"] === "echo" && (l["status"] as number) < 300,
    ).length;
  }
}

/** The answer's stable code; every refusal has the one shape. */
export function codeOf(answer: RawAnswer): string {
  assert.match(answer.headers["content-type"] ?? "", /^application\/json(;|$)/, answer.text);
  const body = JSON.parse(answer.body) as {
    code: string;
    statusCode: number;
    requestId: string;
    message: string;
    todo: string;
  };
  assert.equal(body.statusCode, answer.status);
  assert.equal(body.requestId, answer.headers["x-request-id"]);
  assert.ok(body.message && body.todo);
  return body.code;
}
