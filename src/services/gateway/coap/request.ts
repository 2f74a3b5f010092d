/** A request of a device as a visit like any other: what CoAP says in options, HTTP says in a URL and headers. */
import type { Clock } from "../../../kernel/clock.ts";
import type { Incoming } from "../front/exchange.ts";
import { readHead } from "../headers.ts";
import { clientOf } from "../shape/limiter.ts";
import { Visit } from "../visit.ts";
import type { Peer } from "./exchanges.ts";
import { type Packet, uintOf } from "./packet.ts";
import { CODE, METHODS, OPTION, typeOfFormat, UNDERSTOOD } from "./terms.ts";

/** Why a request is none: the code, and a word for people. */
export class Refused extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** The values of an option, in order. */
export const valuesOf = ({ options }: Pick<Packet, "options">, number: number): Buffer[] =>
  options.filter((each) => each.number === number).map(({ value }) => value);

export const methodOf = ({ code }: Pick<Packet, "code">): string | undefined => METHODS[code];

/** Refuses what is not understood and has to be (RFC 7252 5.4.1), a proxy's work (5.7.2), and methods that HTTP has not. */
export function checkRequest(packet: Packet): void {
  const seen = new Set<number>();
  for (const { number } of packet.options) {
    const repeats = number === OPTION.uriPath || number === OPTION.uriQuery;
    const critical = (number & 1) !== 0;
    // RFC 7252 5.4.5: one that is there too often counts as one that is not understood.
    if (critical && (!UNDERSTOOD.has(number) || (!repeats && seen.has(number))))
      throw new Refused(CODE.badOption, `option ${number} is not understood`);
    if (number === OPTION.proxyUri || number === OPTION.proxyScheme)
      throw new Refused(CODE.proxyNot, "this is no proxy");
    seen.add(number);
  }
  if (!methodOf(packet)) throw new Refused(CODE.methodNotAllowed, "the methods are GET, POST, PUT and DELETE");
}

/** What makes two requests ask for the same (RFC 7252 5.4.2, RFC 7641 2): a body in blocks belongs to it, too. */
export function keyOf({ code, options }: Packet, { address, port }: Peer): string {
  const parts = options
    .filter(({ number }) => !BESIDE_KEY.has(number) && (number & 0x1e) !== 0x1c)
    .map(({ number, value }) => `${number}=${value.toString("base64")}`);
  return [address, port, code, ...parts].join(" ");
}

const BESIDE_KEY: ReadonlySet<number> = new Set([OPTION.block1, OPTION.block2, OPTION.observe]);

/** Makes the visit; Refused where a format is not known, or what `readHead` refuses with. */
export function visitOf(packet: Packet, body: Buffer, { address }: Peer, clock: Clock): Visit {
  const visit = new Visit(incoming(packet, body, address), clock);
  visit.head = visit.exchange.head();
  visit.passed = visit.head.passed;
  return visit;
}

/** The door writes the answer by itself, and knows nothing that would come before it. */
function incoming(packet: Packet, body: Buffer, address: string): Incoming {
  const rawHeaders = headersOf(packet, body);
  return {
    method: methodOf(packet)!,
    url: urlOf(packet),
    rawHeaders,
    address,
    client: clientOf(address),
    tls: undefined,
    expects: false,
    upgrades: false,
    received: true,
    open: true,
    gone: false,
    head: () => readHead(rawHeaders, "1.1"),
    read(reader) {
      if (body.length > 0) reader.data(body);
      reader.end();
    },
    proceed() {},
    inform() {},
  };
}

/** RFC 7252 6.5. */
function urlOf(packet: Packet): string {
  const path = valuesOf(packet, OPTION.uriPath).map((value) => encodeURIComponent(value.toString()));
  const query = valuesOf(packet, OPTION.uriQuery).map((value) =>
    encodeURIComponent(value.toString()).replaceAll("%3D", "="),
  );
  return `/${path.join("/")}${query.length > 0 ? `?${query.join("&")}` : ""}`;
}

function headersOf(packet: Packet, body: Buffer): string[] {
  const [host] = valuesOf(packet, OPTION.uriHost);
  const headers = ["host", host?.toString() ?? "coap"];
  const type = formatIn(packet, OPTION.contentFormat, CODE.formatUnknown);
  if (type !== undefined) headers.push("content-type", type);
  const accept = formatIn(packet, OPTION.accept, CODE.notAcceptable);
  if (accept !== undefined) headers.push("accept", accept);
  if (body.length > 0) headers.push("content-length", String(body.length));
  return headers;
}

function formatIn(packet: Packet, option: number, code: number): string | undefined {
  const [value] = valuesOf(packet, option);
  if (!value) return undefined;
  const type = typeOfFormat(uintOf(value, 2) ?? -1);
  if (type === undefined) throw new Refused(code, "the format is not known here");
  return type;
}
