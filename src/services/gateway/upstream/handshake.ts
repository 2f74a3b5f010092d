/** The handshake of WebSocket, both sides of it (RFC 6455 4): nothing is switched that was not agreed on. */
import { createHash } from "node:crypto";
import type { Socket } from "node:net";
import { fail } from "../../../kernel/error.ts";
import { GATEWAY_UPSTREAM_FAILED } from "../api.ts";
import type { Switched } from "../front/exchange.ts";
import { GATEWAY_ORIGIN_REFUSED, GATEWAY_UPGRADE_REQUIRED, type WebSocketSettings } from "../websocket.api.ts";
import type { Reply, Visit } from "../visit.ts";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const HEAD_BYTES_MAX = 16_384;
const END_OF_HEAD = Buffer.from("\r\n\r\n");
const FIELD = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t ]*([\t\x20-\x7e]*?)[\t ]*$/;
/** What of the service's answer is the client's affair; the rest of the head is the gateway's. */
const GOES_OUT = new Set(["sec-websocket-accept", "sec-websocket-protocol", "sec-websocket-extensions", "set-cookie"]);

/** Reads the client's key (RFC 6455 4.2.1); GATEWAY_UPGRADE_REQUIRED, GATEWAY_ORIGIN_REFUSED. */
export function readKey(visit: Visit, { origins }: WebSocketSettings): string {
  const key = visit.header("sec-websocket-key");
  const strict = key !== undefined && /^[A-Za-z0-9+/]{22}==$/.test(key);
  if (!visit.exchange.upgrades || !strict || visit.header("sec-websocket-version") !== "13") {
    // RFC 6455 4.4
    visit.extra.push("Upgrade", "websocket", "Sec-WebSocket-Version", "13");
    throw fail(GATEWAY_UPGRADE_REQUIRED, "this route is a WebSocket of version 13, with a key of 16 bytes");
  }
  const origin = visit.header("origin")?.toLowerCase();
  // RFC 6455 10.2: a page of strangers does not come in with what a browser adds by itself.
  if (origin !== undefined && origin !== `https://${visit.host.toLowerCase()}` && !origins.includes(origin))
    throw fail(GATEWAY_ORIGIN_REFUSED, "the page that opens this WebSocket is of another origin");
  return key;
}

/** What a key is answered with (RFC 6455 4.2.2). */
const acceptOf = (key: string): string =>
  createHash("sha1")
    .update(key + GUID)
    .digest("base64");

/** Answers a client's handshake: `take` is given the connection once the client knows that it is a WebSocket. */
export const switching = (key: string, protocol: string | undefined, take: (client: Switched) => void): Reply => ({
  status: 101,
  headers: [
    "Upgrade",
    "websocket",
    "Connection",
    "Upgrade",
    "Sec-WebSocket-Accept",
    acceptOf(key),
    ...(protocol === undefined ? [] : ["Sec-WebSocket-Protocol", protocol]),
  ],
  body: undefined,
  switched: take,
});

export interface Opened {
  /** Name, value, ... */
  readonly headers: string[];
  /** What has come after the head. */
  readonly rest: Buffer;
}

/** Waits for a service's 101 and checks it (RFC 6455 4.1; without a key, RFC 9110 7.8 alone); GATEWAY_UPSTREAM_FAILED. */
export function readSwitch(socket: Socket, protocol: string, key?: string): Promise<Opened> {
  let held = Buffer.alloc(0);
  return new Promise((resolve, reject) => {
    const stop = () => socket.off("data", onData).off("error", onEnd).off("close", onEnd);
    const onEnd = () => {
      stop();
      reject(fail(GATEWAY_UPSTREAM_FAILED, "the service ended the connection before it switched to WebSocket"));
    };
    const onData = (chunk: Buffer) => {
      held = Buffer.concat([held, chunk]);
      const at = held.indexOf(END_OF_HEAD);
      if (at < 0 && held.length <= HEAD_BYTES_MAX) return;
      stop();
      socket.pause();
      try {
        resolve({
          headers: switchedHeaders(held.toString("latin1", 0, Math.max(at, 0)), protocol, key),
          rest: held.subarray(at + 4),
        });
      } catch (error) {
        reject(error);
      }
    };
    socket.on("data", onData).on("error", onEnd).on("close", onEnd);
  });
}

function switchedHeaders(head: string, protocol: string, key: string | undefined): string[] {
  const [start = "", ...lines] = head.split("\r\n");
  const fields = new Map<string, string>();
  const headers: string[] = [];
  for (const line of lines) {
    const [, name, value] = FIELD.exec(line) ?? [];
    if (name === undefined) throw refused("a header line is malformed");
    fields.set(name.toLowerCase(), value);
    if (GOES_OUT.has(name.toLowerCase())) headers.push(name, value);
  }
  if (!/^HTTP\/1\.1 101( |$)/.test(start)) throw refused("its answer was another one");
  const accepted = key === undefined || fields.get("sec-websocket-accept") === acceptOf(key);
  if (fields.get("upgrade")?.toLowerCase() !== protocol || !accepted)
    throw refused("its handshake is not the one that was asked for");
  return headers;
}

const refused = (why: string) => fail(GATEWAY_UPSTREAM_FAILED, `the service did not switch protocols: ${why}`);
