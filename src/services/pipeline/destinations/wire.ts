/** Connections to destinations: TCP or TLS from an own address, within a time, every byte on the socket counted. */
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { portOf } from "../../../kernel/config-reach.ts";
import { code, fail, Failure, UNAVAILABLE } from "../../../kernel/error.ts";
import type { TlsConfig } from "./config.ts";
import type { Bytes } from "./sender.ts";

export const PIPELINE_PORT_FORBIDDEN = code(
  "PIPELINE_PORT_FORBIDDEN",
  "unavailable",
  "Allow the port with 'node.connectPorts' in the config, as the message says, and start the node anew.",
);
export const PIPELINE_DESTINATION_INVALID = code(
  "PIPELINE_DESTINATION_INVALID",
  "invalid",
  "Correct the destination in the config as the message says; docs/destinations.md has an example of each kind.",
);

/** Counts what goes over the sockets themselves: TLS, headers and all. */
export class Meter {
  readonly #open = new Set<Socket>();
  #sent = 0;
  #received = 0;

  add(socket: Socket): void {
    this.#open.add(socket);
    socket.once("close", () => {
      this.#open.delete(socket);
      this.#sent += socket.bytesWritten;
      this.#received += socket.bytesRead;
    });
  }

  get bytes(): Bytes {
    let { sent, received } = { sent: this.#sent, received: this.#received };
    for (const socket of this.#open) {
      sent += socket.bytesWritten;
      received += socket.bytesRead;
    }
    return { sent, received };
  }
}

/** Where a destination is, and how it is reached. */
export interface Place {
  readonly host: string;
  readonly port: number;
  /** What TLS is made with; undefined: none. */
  readonly tls: ConnectionOptions | undefined;
  /** Own address to connect from. */
  readonly localAddress?: string | undefined;
  /** For connecting, TLS included. */
  readonly timeoutMs: number;
}

const LOOPBACK = /^(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1)$/;
const TLS_SCHEMES = new Set(["https:", "mqtts:", "tls:"]);

export interface PlaceOptions {
  readonly url: string;
  readonly tls: TlsConfig;
  readonly insecure: boolean;
  readonly timeoutMs: number;
  readonly localAddress?: string | undefined;
  /** Texts of the files that the config names, by path. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Finds where an address leads. PIPELINE_DESTINATION_INVALID for one without TLS to another machine, unless it is said to be meant. */
export function placeOf({ url, tls, insecure, timeoutMs, localAddress, secrets }: PlaceOptions): Place {
  const port = portOf(url);
  if (port === undefined) throw fail(PIPELINE_DESTINATION_INVALID, `'${url}' is no address with a port`);
  const { hostname, protocol, username } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, "");
  if (username !== "") throw fail(PIPELINE_DESTINATION_INVALID, `'${host}': a secret does not belong in an address`);
  const isSecure = TLS_SCHEMES.has(protocol);
  if (!isSecure && !insecure && !LOOPBACK.test(host))
    throw fail(
      PIPELINE_DESTINATION_INVALID,
      `${protocol}//${host} is another machine and would be reached without TLS: use TLS, or say 'insecure: true'`,
    );
  const common = { host, port, timeoutMs, localAddress };
  return { ...common, tls: isSecure ? tlsOptions(tls, secrets, host) : undefined };
}

/** Tells whether a place is reached in the open, by way of other machines: worth a warning. */
export const isExposed = ({ tls, host }: Place): boolean => tls === undefined && !LOOPBACK.test(host);

function tlsOptions(
  { caFile, certFile, keyFile, serverName, minVersion }: TlsConfig,
  secrets: PlaceOptions["secrets"],
  host: string,
): ConnectionOptions {
  const name = serverName ?? host;
  return {
    minVersion: minVersion === "1.2" ? "TLSv1.2" : "TLSv1.3",
    ...(caFile === undefined ? {} : { ca: secrets[caFile] }),
    ...(certFile === undefined ? {} : { cert: secrets[certFile] }),
    ...(keyFile === undefined ? {} : { key: secrets[keyFile] }),
    host: name,
    // RFC 6066 3: an address is no server name; it is held against the certificate all the same.
    ...(/^[\d.]+$|:/.test(name) ? {} : { servername: name }),
  };
}

/** Opens a connection. Errors come as events: `inWords` says them. */
export function dial(place: Place, meter: Meter): Socket {
  const { host, port, localAddress, timeoutMs } = place;
  // A socket of its own below TLS: only there every byte of the wire is seen.
  const tcp = connectTcp({
    host,
    port,
    noDelay: true,
    keepAlive: true,
    ...(localAddress === undefined ? {} : { localAddress }),
  });
  meter.add(tcp);
  const socket = place.tls ? encrypted(tcp, place.tls) : tcp;
  const ready = place.tls ? "secureConnect" : "connect";
  const timer = setTimeout(() => socket.destroy(new Error(`no connection within ${timeoutMs} ms`)), timeoutMs);
  socket.once(ready, () => clearTimeout(timer));
  socket.once("close", () => clearTimeout(timer));
  return socket;
}

/** Puts TLS on a connection. */
export function encrypted(tcp: Socket, tls: ConnectionOptions): Socket {
  const socket = connectTls({ ...tls, socket: tcp });
  tcp.once("error", (error) => socket.destroy(error));
  return socket;
}

/** Says which key of the config allows a port, where it was the sandbox that refused it: PIPELINE_PORT_FORBIDDEN; else undefined. */
export function forbiddenPort(error: unknown, port: number): Failure | undefined {
  const { code: reason, message } = error as NodeJS.ErrnoException;
  // Landlock answers EACCES to a connect that it was not told of, the system call filter EPERM.
  if (!/\bE(ACCES|PERM)\b/.test(`${reason} ${message}`)) return undefined;
  const said = `the sandbox does not let the pipeline connect to port ${port}: allow it with 'node.connectPorts: { pipeline: [${port}] }' in the config, and start anew`;
  return fail(PIPELINE_PORT_FORBIDDEN, said, { cause: error });
}

/** Says what went wrong with a connection. PIPELINE_PORT_FORBIDDEN where it was the sandbox, else UNAVAILABLE. */
export function inWords(error: unknown, { host, port }: Pick<Place, "host" | "port">): Failure {
  if (error instanceof Failure) return error;
  const { code: reason, message } = error as NodeJS.ErrnoException;
  return (
    forbiddenPort(error, port) ??
    fail(UNAVAILABLE, `${host}:${port}: ${message || reason || "the connection broke"}`, { cause: error })
  );
}
