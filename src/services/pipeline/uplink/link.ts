/** The connection to a cloud: mutual TLS with the node's certificate, its bytes counted on the wire. */
import { Agent } from "node:https";
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { type Call, makeCall } from "../../../kernel/call.ts";
import { checkValue } from "../../../kernel/check.ts";
import type { Clock } from "../../../kernel/clock.ts";
import { connect, type Target } from "../../../kernel/connect.ts";
import type { Output, Service } from "../../../kernel/contract.ts";
import { asFailure, DEADLINE, fail, UNAVAILABLE } from "../../../kernel/error.ts";
import { spiffeName } from "../../../kernel/identity/names.ts";
import { makeKeyAndRequest } from "../../../kernel/identity/request.ts";
import { TlsIdentity } from "../../../kernel/identity/tls.ts";
import type { SequenceRange } from "../../../kernel/sequences.ts";
import { cloud, type Gap } from "../../cloud/api.ts";
import type { BackfillProgress, BackfillRequest } from "../../cloud/backfill.api.ts";
import type { QueuedBatch } from "../outbox/record.ts";
import type { Enrollment } from "../store.ts";
import { Patience } from "./patience.ts";

/** Below what the cloud waits (65 s), so that the one who sends is the one who closes. */
const IDLE_MS_MAX = 50_000;
/** One for what is new, one for what waits, one for certificates and marks; more where an answer is late. */
const CONNECTIONS_MAX = 4;
/** About what an entry of the gap ledger or the progress of a backfill takes. */
const ITEM_BYTES = 256;

type CloudClient = Service<typeof cloud>;
export type Accepted = Output<typeof cloud, "accept">;
export type Marked = Output<typeof cloud, "mark">;
export type Signed = Pick<Enrollment, "certPem" | "keyPem">;

export interface ToSend {
  readonly stream: string;
  readonly epoch: number;
  /** The sequence that the first batch follows. */
  readonly previous: number;
  readonly opens: boolean;
  readonly absent: readonly SequenceRange[];
  readonly batches: readonly QueuedBatch[];
}

export interface Link {
  readonly bytes: { readonly sent: number; readonly received: number };
  /** Sends batches; what is answered fits them. */
  accept(to: ToSend, signal: AbortSignal): Promise<Accepted>;
  mark(stream: string, epoch: number, signal: AbortSignal): Promise<Marked>;
  /** Tells entries of the gap ledger. */
  reportGaps(gaps: readonly Gap[], signal: AbortSignal): Promise<void>;
  /** Tells how far backfills are; answers which of them are wanted no more. */
  reportBackfills(backfills: readonly BackfillProgress[], signal: AbortSignal): Promise<readonly string[]>;
  /** When the cloud has last answered, on the monotonic clock. */
  readonly answeredMs: number;
  /** Gets a new certificate and uses it from the next connection on. */
  renew(signal: AbortSignal): Promise<Signed>;
  close(): void;
}

/** Counts what goes over the sockets themselves: TLS, headers and all. */
class Meter {
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

  get bytes(): { sent: number; received: number } {
    let { sent, received } = { sent: this.#sent, received: this.#received };
    for (const socket of this.#open) {
      sent += socket.bytesWritten;
      received += socket.bytesRead;
    }
    return { sent, received };
  }
}

class MeteredAgent extends Agent {
  readonly #settings: () => ConnectionOptions;
  readonly #meter: Meter;
  readonly #from: { readonly localAddress?: string };

  constructor(settings: () => ConnectionOptions, meter: Meter, localAddress: string | undefined) {
    super({ keepAlive: true, maxSockets: CONNECTIONS_MAX, maxCachedSessions: 0, timeout: IDLE_MS_MAX });
    this.#settings = settings;
    this.#from = localAddress === undefined ? {} : { localAddress };
    this.#meter = meter;
  }

  /** Closes the connections that nobody uses now. */
  forgetIdle(): void {
    for (const sockets of Object.values(this.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
  }

  override createConnection(options: ConnectionOptions) {
    // A socket of its own below TLS: only there every byte of the wire is seen.
    const tcp = connectTcp({
      host: options.host ?? "localhost",
      port: Number(options.port),
      noDelay: true,
      keepAlive: true,
      ...this.#from,
    });
    this.#meter.add(tcp);
    const tls = connectTls({ ...options, ...this.#settings(), socket: tcp });
    tcp.once("error", (error) => tls.destroy(error));
    return tls;
  }
}

/** Finds where a URL leads. */
export function targetOf(url: string, agent: Agent): Target {
  const { hostname, port } = new URL(url);
  return { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port || 443), agent, secure: true };
}

export interface LinkOptions {
  readonly localAddress?: string | undefined;
  /** Is told what the cloud asks for in full; `isAll`: it wants nothing else. */
  readonly asked?: (requests: readonly BackfillRequest[], isAll: boolean) => void;
}

/** Opens the link of an enrollment; nothing is sent before the first call. IDENTITY_CERTIFICATE_INVALID. */
export function openLink(enrollment: Enrollment, clock: Clock, options: LinkOptions = {}): Link {
  const { caPem, certPem, cloud: node, edge, keyPem, url } = enrollment;
  const { localAddress, asked } = options;
  const identity = new TlsIdentity({ node, service: `edge.${edge}`, caPem, clock });
  identity.update({ certPem, keyPem });
  const meter = new Meter();
  const agent = new MeteredAgent(() => identity.clientOptions({ node, service: "cloud" }), meter, localAddress);
  const target = targetOf(url, agent);
  const client = connect(cloud, { resolver: { pick: () => target, failed: () => undefined } });
  const ask = asking(agent, clock);
  let heard: Heard | undefined;
  let answeredMs = clock.monotonicMs();
  return {
    get bytes() {
      return meter.bytes;
    },
    async accept(to, signal) {
      const bytes = to.batches.reduce((sum, { blocks }) => sum + blocks.length, 0);
      const sent = { ...to, sentNs: clock.wallNs(), ...(heard ? { heard } : {}) };
      const accepted = await ask(bytes, signal, (call) => accept(client, sent, call));
      answeredMs = clock.monotonicMs();
      if (accepted.backfills) asked?.(accepted.backfills, false);
      heard = { answeredNs: accepted.receivedNs + BigInt(accepted.durationUs) * 1000n, atNs: clock.wallNs() };
      return accepted;
    },
    async mark(stream, epoch, signal) {
      const marked = checked("mark", await ask(0, signal, (call) => client.mark({ stream, epoch }, call)));
      answeredMs = clock.monotonicMs();
      if (marked.backfills) asked?.(marked.backfills, true);
      return marked;
    },
    async reportGaps(gaps, signal) {
      await ask(gaps.length * ITEM_BYTES, signal, (call) => client.reportGaps({ body: { gaps: [...gaps] } }, call));
    },
    get answeredMs() {
      return answeredMs;
    },
    async reportBackfills(backfills, signal) {
      const reported = await ask(backfills.length * ITEM_BYTES, signal, (call) =>
        client.reportBackfills({ body: { backfills: [...backfills] } }, call),
      );
      return checked("reportBackfills", reported).unwanted;
    },
    async renew(signal) {
      const { csrPem, keyPem: newKey } = await makeKeyAndRequest(spiffeName(node, `edge.${edge}`));
      const answer = await ask(csrPem.length, signal, (call) => client.renew({ body: { csrPem } }, call));
      const signed = { certPem: checked("renew", answer).certPem, keyPem: newKey };
      identity.update(signed);
      return signed;
    },
    close() {
      agent.destroy();
      identity.close();
    },
  };
}

type Ask = <T>(bytes: number, signal: AbortSignal, work: (call: Call) => Promise<T>) => Promise<T>;

/** Makes what asks for one thing with so many bytes, and gives it up when the link should have had them through long ago. */
function asking(agent: MeteredAgent, clock: Clock): Ask {
  const patience = new Patience();
  return async (bytes, signal, work) => {
    const startMs = clock.monotonicMs();
    const call = makeCall({ caller: "pipeline", timeoutMs: patience.limitMs(bytes), signal });
    try {
      const answer = await work(call);
      patience.answered(bytes, clock.monotonicMs() - startMs);
      return answer;
    } catch (error) {
      if (!signal.aborted && asFailure(error).code === DEADLINE.code) {
        patience.inVain();
        // Whatever swallowed this request swallows those on the other connections, too: none of them is tried again.
        agent.forgetIdle();
      }
      throw error;
    } finally {
      call.end(false);
    }
  };
}

/** When the cloud answered by its clock, and when that was heard by ours: both tell it how far ours is off. */
interface Heard {
  readonly answeredNs: bigint;
  readonly atNs: bigint;
}

async function accept(
  client: CloudClient,
  { previous, batches, absent, ...to }: ToSend & { readonly sentNs: bigint; readonly heard?: Heard },
  call: Call,
): Promise<Accepted> {
  const chain = batches.map(({ sequence, pipeline, through, queuedNs, blocks }, i) => ({
    sequence,
    previous: i === 0 ? previous : batches[i - 1].sequence,
    pipeline,
    queuedNs,
    blocks,
    ...(through === undefined ? {} : { through }),
  }));
  const accepted = checked(
    "accept",
    await client.accept({ body: { ...to, absent: [...absent], batches: chain } }, call),
  );
  // Were it believed, batches that nobody has would be let go of.
  if (!batches.some(({ sequence }) => sequence === accepted.durable))
    throw fail(
      UNAVAILABLE,
      `the cloud answers that it has batches up to ${accepted.durable}; ${batches[0].sequence} to ${batches.at(-1)!.sequence} were sent`,
    );
  return accepted;
}

/** What comes back is checked as what is sent: the cloud may be of another version, or something else by now. */
function checked<K extends "accept" | "mark" | "renew" | "reportBackfills">(
  operation: K,
  answer: Output<typeof cloud, K>,
): Output<typeof cloud, K> {
  try {
    checkValue(cloud.operations[operation].output, answer, `the cloud's answer to ${operation}:`);
  } catch (cause) {
    throw fail(UNAVAILABLE, "the cloud answered something else than a cloud does", { cause });
  }
  return answer;
}
