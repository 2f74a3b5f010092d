/** A connection of the gateway that goes on as another protocol (RFC 9110 7.8): a person's, whom the gateway names. */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Subject } from "./call.ts";
import type { ServeOptions } from "./serve.ts";
import type { Contract } from "./contract.ts";
import { peerName } from "./identity/peer.ts";
import { readSubject } from "./serve-request.ts";
import { HEADER } from "./wire.ts";

/** Takes a connection over, for a person; undefined where the gateway's route asks nobody who he is. */
export type TakeOver = (socket: TLSSocket, subject: Subject | undefined) => void;

/** By the protocol's name in lower case. */
export type Upgrades = Readonly<Record<string, TakeOver>>;

const refusal = (status: string) => `HTTP/1.1 ${status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`;

/**
 * Makes the listener of a server's `upgrade`; `switched` holds the connections, to be ended with the server: 403 for all but the gateway, 421 for another instance, 400 for what is not spoken.
 */
export const upgrading =
  (options: Pick<ServeOptions<Contract>, "instance" | "log">, upgrades: Upgrades, switched: Set<Socket>) =>
  (request: IncomingMessage, socket: TLSSocket, head: Buffer): void => {
    socket.on("error", () => socket.destroy());
    const name = request.headers.upgrade?.toLowerCase() ?? "";
    const meant = request.headers[HEADER.instance];
    const take = Object.hasOwn(upgrades, name) ? upgrades[name] : undefined;
    if (peerName(socket)?.service !== "gateway") return void socket.end(refusal("403 Forbidden"));
    if (meant !== undefined && options.instance !== undefined && meant !== options.instance)
      return void socket.end(refusal("421 Misdirected Request"));
    if (!take) return void socket.end(refusal("400 Bad Request"));
    const subject = readSubject(request.headers[HEADER.subject] as string | undefined);
    switched.add(socket);
    socket.once("close", () => switched.delete(socket));
    socket.setTimeout(0);
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: ${name}\r\nConnection: Upgrade\r\n\r\n`);
    if (head.length > 0) socket.unshift(head);
    take(socket, subject);
    options.log.info({ operation: "upgrade", protocol: name, subject: subject?.name });
  };
