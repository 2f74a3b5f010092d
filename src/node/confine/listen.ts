/**
 * Listening sockets, opened by the supervisor and passed to a service as a descriptor. The supervisor keeps its own open:
 * while a service is not there, connections wait in the backlog, and none is refused.
 */
import { closeSync, chmodSync, lstatSync, unlinkSync } from "node:fs";
import { isIPv4, isIPv6 } from "node:net";
import { code, fail, type Failure } from "../../kernel/error.ts";
import { attempt, LibcError } from "./libc.ts";

export const NODE_PORT_IN_USE = code(
  "NODE_PORT_IN_USE",
  "conflict",
  "Stop the program that listens on the address, or choose another port; 'ss -ltnp' names the program.",
);
export const NODE_PORT_FORBIDDEN = code(
  "NODE_PORT_FORBIDDEN",
  "forbidden",
  "Choose a port from 1024 on, or start as root or with CAP_NET_BIND_SERVICE.",
);
export const NODE_ADDRESS_UNKNOWN = code(
  "NODE_ADDRESS_UNKNOWN",
  "invalid",
  "Give an IP address that this machine has ('ip address' lists them), or 0.0.0.0 or :: for all.",
);
export const NODE_SOCKET_IN_USE = code(
  "NODE_SOCKET_IN_USE",
  "conflict",
  "Stop the program that answers on the socket, or choose another path.",
);
export const NODE_SOCKET_UNUSABLE = code(
  "NODE_SOCKET_UNUSABLE",
  "invalid",
  "Choose a path of at most 107 bytes in a directory that this user may write, where nothing but a socket lies.",
);

// asm-generic/socket.h, netinet/in.h: the same on x86-64 and aarch64.
const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const CLOEXEC_NONBLOCK = 0x8_0000 | 0x800;
const SOCK_STREAM_CLOEXEC_NONBLOCK = 1 | CLOEXEC_NONBLOCK;
const SOCK_DGRAM_CLOEXEC_NONBLOCK = 2 | CLOEXEC_NONBLOCK;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const SOCKADDR_IN6_BYTES = 28;
const SOCKADDR_IN_BYTES = 16;
/** struct sockaddr_un has 108 bytes for the path, its NUL included. */
const SOCKET_PATH_BYTES_MAX = 107;
const PORT_MAX = 65_535;
/** Connections that wait while no service accepts; the kernel cuts it to net.core.somaxconn (4096) and drops SYNs past it, which clients repeat. */
const BACKLOG = 4096;

export interface Listening {
  fd: number;
  host: string;
  port: number;
}

/**
 * Opens a TCP socket that listens on an IP address of this machine; port 0 picks a free one. The descriptor is
 * close-on-exec: only spawn's stdio hands it on. Fails with NODE_PORT_IN_USE, NODE_PORT_FORBIDDEN, NODE_ADDRESS_UNKNOWN.
 */
export function listenTcp({ host, port, backlog = BACKLOG }: At & { backlog?: number }): Listening {
  return opened({ host, port }, SOCK_STREAM_CLOEXEC_NONBLOCK, (fd, where) => {
    const listening = attempt("listen", fd, backlog);
    if (listening < 0) throw refused(where, "listen", -listening);
  });
}

/**
 * Opens a UDP socket at an IPv4 address of this machine, as `listenTcp` does (dgram has to be told of which version a
 * descriptor is): what comes meanwhile waits in its buffer.
 */
export function listenUdp(at: At): Listening {
  if (isIPv6(at.host.split("%")[0] ?? ""))
    throw fail(NODE_ADDRESS_UNKNOWN, `cannot listen on ${at.host}, port ${at.port}: a door of UDP has an IPv4 address`);
  return opened(at, SOCK_DGRAM_CLOEXEC_NONBLOCK);
}

interface At {
  readonly host: string;
  readonly port: number;
}

function opened({ host, port }: At, type: number, then?: (fd: number, where: string) => void): Listening {
  const where = isIPv6(host.split("%")[0] ?? "") ? `[${host}]:${port}` : `${host}:${port}`;
  if (!Number.isInteger(port) || port < 0 || port > PORT_MAX)
    throw fail(NODE_ADDRESS_UNKNOWN, `${where}: a port is a number from 0 to ${PORT_MAX}`);
  const address = socketAddress(host, port, where);
  const family = address.readUInt16LE(0);
  const fd = attempt("socket", family, type, 0);
  if (fd < 0) throw refused(where, "socket", -fd);
  try {
    // Of UDP it would let another program of this user share the port.
    if (type === SOCK_STREAM_CLOEXEC_NONBLOCK) setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    // '::' means all addresses of both versions, whatever net.ipv6.bindv6only says.
    if (family === AF_INET6) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, host === "::" ? 0 : 1);
    const bound = attempt("bind", fd, address, address.length);
    if (bound < 0) throw refused(where, "bind", -bound);
    then?.(fd, where);
    return { fd, host, port: portOf(fd) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Lays out struct sockaddr_in or sockaddr_in6 for an IP address (a name only for the one that every machine has). */
function socketAddress(host: string, port: number, where: string): Buffer {
  const [ip = "", zone] = (host === "localhost" ? "127.0.0.1" : host).split("%");
  const unknown = (why: string): Failure => fail(NODE_ADDRESS_UNKNOWN, `cannot listen on ${where}: ${why}`);
  if (!isIPv4(ip) && !isIPv6(ip)) throw unknown(`'${host}' is not an IP address`);
  const v6 = isIPv6(ip);
  const address = Buffer.alloc(v6 ? SOCKADDR_IN6_BYTES : SOCKADDR_IN_BYTES);
  address.writeUInt16LE(v6 ? AF_INET6 : AF_INET, 0);
  address.writeUInt16BE(port, 2);
  const bytes = Buffer.alloc(16);
  if (attempt("inet_pton", v6 ? AF_INET6 : AF_INET, ip, bytes) !== 1) throw unknown(`'${ip}' is not an IP address`);
  bytes.copy(address, v6 ? 8 : 4, 0, v6 ? 16 : 4);
  if (zone !== undefined) {
    const index = attempt("if_nametoindex", zone);
    if (index <= 0 || !v6) throw unknown(`there is no network interface '${zone}'`);
    address.writeUInt32LE(index, 24);
  }
  return address;
}

function refused(where: string, step: string, errno: number): Failure {
  const cause = new LibcError(`${step}(${where})`, errno);
  switch (cause.symbol) {
    case "EADDRINUSE":
      return fail(NODE_PORT_IN_USE, `cannot listen on ${where}: another program listens there`, { cause });
    case "EACCES":
    case "EPERM":
      return fail(NODE_PORT_FORBIDDEN, `cannot listen on ${where}: this user may not open the port`, { cause });
    case "EADDRNOTAVAIL":
      return fail(NODE_ADDRESS_UNKNOWN, `cannot listen on ${where}: this machine does not have the address`, { cause });
    case "EAFNOSUPPORT":
      return fail(NODE_ADDRESS_UNKNOWN, `cannot listen on ${where}: this machine has no IPv6`, { cause });
    default:
      return fail(NODE_ADDRESS_UNKNOWN, `cannot listen on ${where}: ${cause.message}`, { cause });
  }
}

function setOption(fd: number, level: number, option: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  const result = attempt("setsockopt", fd, level, option, bytes, bytes.length);
  if (result < 0) throw new LibcError(`setsockopt(${option})`, -result);
}

function portOf(fd: number): number {
  const address = Buffer.alloc(SOCKADDR_IN6_BYTES);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(address.length);
  const result = attempt("getsockname", fd, address, length);
  if (result < 0) throw new LibcError("getsockname", -result);
  return address.readUInt16BE(2);
}

/**
 * Opens a Unix socket that listens at `path` with the mode's permissions; it never has wider ones, not for a moment. A
 * socket that nobody answers on any more is replaced. Fails with NODE_SOCKET_IN_USE, NODE_SOCKET_UNUSABLE.
 */
export function listenUnix(path: string, mode = 0o600): { fd: number; path: string } {
  const address = unixAddress(path);
  removeStale(path, address);
  const fd = attempt("socket", AF_UNIX, SOCK_STREAM_CLOEXEC_NONBLOCK, 0);
  if (fd < 0) throw new LibcError("socket(AF_UNIX)", -fd);
  try {
    // The kernel makes the file with 0777 less the mask; chmod afterwards would leave a moment in between.
    const before = process.umask(0o177);
    const bound = attempt("bind", fd, address, address.length);
    process.umask(before);
    if (bound < 0) throw unusable(path, new LibcError(`bind(${path})`, -bound));
    if (mode !== 0o600) chmodSync(path, mode);
    const listening = attempt("listen", fd, BACKLOG);
    if (listening < 0) throw unusable(path, new LibcError(`listen(${path})`, -listening));
    return { fd, path };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function unixAddress(path: string): Buffer {
  const bytes = Buffer.from(path);
  if (bytes.length > SOCKET_PATH_BYTES_MAX)
    throw fail(
      NODE_SOCKET_UNUSABLE,
      `the socket's path has ${bytes.length} bytes, at most ${SOCKET_PATH_BYTES_MAX} are possible: ${path}`,
    );
  const address = Buffer.alloc(2 + bytes.length + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  bytes.copy(address, 2);
  return address;
}

/** Removes a socket whose program is gone (its connect is refused); anything else that lies there is left alone. */
function removeStale(path: string, address: Buffer): void {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (!there) return;
  if (!there.isSocket()) throw fail(NODE_SOCKET_UNUSABLE, `${path} is there and is not a socket`);
  const fd = attempt("socket", AF_UNIX, SOCK_STREAM_CLOEXEC_NONBLOCK, 0);
  if (fd < 0) throw new LibcError("socket(AF_UNIX)", -fd);
  const answered = attempt("connect", fd, address, address.length);
  closeSync(fd);
  const refusal = answered < 0 ? new LibcError(`connect(${path})`, -answered).symbol : "";
  // EAGAIN is a full backlog: somebody is there. Only a refusal means that nobody is.
  if (refusal !== "ECONNREFUSED") throw fail(NODE_SOCKET_IN_USE, `another program answers on ${path}`);
  unlinkSync(path);
}

function unusable(path: string, cause: LibcError): Failure {
  return cause.symbol === "EADDRINUSE"
    ? fail(NODE_SOCKET_IN_USE, `another program took ${path} at this moment`, { cause })
    : fail(NODE_SOCKET_UNUSABLE, `cannot make the socket ${path}: ${cause.message}`, { cause });
}
