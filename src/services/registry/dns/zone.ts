/** The registry's table as a DNS zone: addresses and ports of services by their names. */
import { isIPv4, isIPv6 } from "node:net";
import { type Instance, type Listed, WEIGHT_DEFAULT } from "../instances.api.ts";
import { type Answer, type Question, RCODE, type Resource, soaData, srvData, TYPE } from "./message.ts";

/** Below the zone, names of addresses: `7f000001.addr.<zone>` is 127.0.0.1. SRV records lead to them. */
const ADDRESSES = "addr";
/** An answer names so many instances at the most, best first. */
const INSTANCES_MAX = 64;

/** Answers a question from the table. */
export function answerOf(question: Question, zone: string, listed: (service?: string) => Listed): Answer {
  const { name, type } = question;
  if (name !== zone && !name.endsWith(`.${zone}`)) return { rcode: RCODE.refused, answers: [] };
  const soa: Resource = { type: TYPE.soa, name: zone, data: soaData(zone, listed().revision % 2 ** 32) };
  if (name === zone) {
    const isAsked = type === TYPE.soa || type === TYPE.any;
    return { rcode: RCODE.fine, answers: isAsked ? [soa] : [], authority: isAsked ? [] : [soa] };
  }
  const found = recordsOf(name.slice(0, -zone.length - 1).split("."), zone, listed);
  if (!found) return { rcode: RCODE.nameUnknown, answers: [], authority: [soa] };
  const answers = found.filter((record) => record.type === type || type === TYPE.any);
  const additional = type === TYPE.srv ? addressesOf(answers, zone) : [];
  return { rcode: RCODE.fine, answers, additional, authority: answers.length === 0 ? [soa] : [] };
}

/** What there is of a name; undefined where there is no such name. */
function recordsOf(
  labels: readonly string[],
  zone: string,
  listed: (service?: string) => Listed,
): Resource[] | undefined {
  const [first = "", second] = labels;
  if (labels.length === 2 && second === ADDRESSES) {
    const address = /^([0-9a-f]{8}|[0-9a-f]{32})$/.test(first) ? Buffer.from(first, "hex") : undefined;
    return address && [addressRecord(address)];
  }
  if (labels.length === 1) {
    const instances = usable(listed(first).instances);
    return instances.length === 0 ? undefined : [...hostRecords(instances), ...portRecords(instances, zone)];
  }
  // RFC 2782: _service._proto; `_edgex` leads to the ports that EdgeX's software can speak to.
  if (labels.length !== 2 || !first.startsWith("_") || (second !== "_tcp" && second !== "_edgex")) return undefined;
  const instances = usable(listed(first.slice(1)).instances);
  const meant =
    second === "_tcp"
      ? instances
      : instances.flatMap((i) => (i.edgexPort === undefined ? [] : [{ ...i, port: i.edgexPort }]));
  return meant.length === 0 ? undefined : portRecords(meant, zone);
}

/** Best first; whom nobody is sent to is not in it. */
function usable(instances: readonly Instance[]): Instance[] {
  return instances
    .filter(({ state, maintenance, node }) => state !== "critical" && !maintenance && node === undefined)
    .sort((a, b) => priorityOf(a) - priorityOf(b))
    .slice(0, INSTANCES_MAX);
}

const PRIORITIES: readonly Instance["state"][] = ["passing", "warning", "unverified", "draining"];
const priorityOf = ({ state }: Instance): number => PRIORITIES.indexOf(state);

/** Addresses have no priority: only the best are told. */
function hostRecords(instances: readonly Instance[]): Resource[] {
  const best = instances.filter((i) => priorityOf(i) === priorityOf(instances[0]));
  const hosts = new Set(best.map(({ host }) => host));
  return [...hosts].flatMap((host) => {
    const address = addressOf(host);
    return address ? [addressRecord(address)] : [];
  });
}

const portRecords = (instances: readonly Instance[], zone: string): Resource[] =>
  instances.map((instance) => {
    const { host, port, weight = WEIGHT_DEFAULT } = instance;
    const address = addressOf(host);
    const target = address ? `${address.toString("hex")}.${ADDRESSES}.${zone}` : host;
    return { type: TYPE.srv, data: srvData(priorityOf(instance), weight, port, target) };
  });

/** The addresses that SRV records lead to, so that nobody has to ask for them. */
function addressesOf(answers: readonly Resource[], zone: string): Resource[] {
  const end = `.${ADDRESSES}.${zone}`;
  const names = new Set(answers.map(({ data }) => labelsOf(data.subarray(6))).filter((name) => name.endsWith(end)));
  return [...names].map((name) => ({ ...addressRecord(Buffer.from(name.slice(0, -end.length), "hex")), name }));
}

function labelsOf(data: Buffer): string {
  const labels: string[] = [];
  for (let at = 0; data[at] > 0; at += 1 + data[at]) labels.push(data.toString("latin1", at + 1, at + 1 + data[at]));
  return labels.join(".");
}

const addressRecord = (address: Buffer): Resource => ({
  type: address.length === 4 ? TYPE.a : TYPE.aaaa,
  data: address,
});

/** 4 or 16 bytes; undefined for a name, but the one that means this machine everywhere. */
function addressOf(host: string): Buffer | undefined {
  if (host === "localhost") return Buffer.of(127, 0, 0, 1);
  if (isIPv4(host)) return Buffer.from(host.split(".").map(Number));
  if (!isIPv6(host)) return undefined;
  // The URL parser writes an address in its one form (RFC 5952), with an IPv4 end as two groups.
  const [head = "", tail] = new URL(`http://[${host}]`).hostname.slice(1, -1).split("::");
  const groups = (text: string) => (text === "" ? [] : text.split(":"));
  const after = tail === undefined ? [] : groups(tail);
  const zeros = Array.from({ length: 8 - groups(head).length - after.length }, () => "0");
  const all = [...groups(head), ...zeros, ...after];
  return Buffer.from(all.map((group) => group.padStart(4, "0")).join(""), "hex");
}
