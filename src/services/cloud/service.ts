/** The rules of the cloud: whom it enrolls, that each batch counts once, what it answers. */
import { createHash, randomBytes } from "node:crypto";
import type { Clock } from "../../kernel/clock.ts";
import { Failure, fail } from "../../kernel/error.ts";
import { readingOf } from "../../kernel/events/edgex.ts";
import { publisherTag } from "../../kernel/events/ids.ts";
import type { Block } from "../../kernel/events/model.ts";
import { newest } from "../../kernel/events/newest.ts";
import type { Authority } from "../../kernel/identity/authority.ts";
import { spiffeName } from "../../kernel/identity/names.ts";
import type { Log } from "../../kernel/log.ts";
import type { Reading } from "../../kernel/edgex.ts";
import { type Batch, type Cloud, CLOUD_CODE_REFUSED, CLOUD_SEQUENCE_GAP } from "./api.ts";
import { auditOf } from "./audit.ts";
import { readingsOf } from "./count.ts";
import type { CloudStore } from "./store.ts";

interface Needs {
  readonly store: CloudStore;
  readonly authority: Authority;
  /** The cloud's own name, in its certificates. */
  readonly name: string;
  readonly certificateLifetimeMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

const CODE_BYTES = 15;
/** Wrong codes before all are refused for a while: guessing 120 bits is hopeless, filling the log is not. */
const WRONG_CODES_MAX = 20;
const WRONG_CODES_MS = 60_000;

const hashOf = (code: string): Buffer => createHash("sha256").update(code).digest();
const edgeOf = (caller: string): string => caller.slice("edge.".length);

/** Makes the cloud. */
export function makeCloud(needs: Needs): Cloud {
  const { store, authority, name, clock, log } = needs;
  const wrong = { count: 0, sinceMs: 0 };
  const certify = async (edge: string, csrPem: string) => {
    const issued = await authority.issue({
      csrPem, name: spiffeName(name, `edge.${edge}`), dns: [], ips: [], lifetimeMs: needs.certificateLifetimeMs, client: true, server: false,
    });
    return { certPem: issued.certPem, caPem: authority.certPem, notAfterMs: issued.notAfterMs };
  };
  const refuse = (why: string) => {
    if (clock.monotonicMs() - wrong.sinceMs > WRONG_CODES_MS) Object.assign(wrong, { count: 0, sinceMs: clock.monotonicMs() });
    wrong.count++;
    return fail(CLOUD_CODE_REFUSED, why);
  };
  return {
    authority: async () => ({ node: name, caPem: authority.certPem }),
    async enroll({ body }, call) {
      if (wrong.count >= WRONG_CODES_MAX && clock.monotonicMs() - wrong.sinceMs < WRONG_CODES_MS) throw refuse("too many wrong codes; try again in a minute");
      if (!store.takeCode(hashOf(body.code), clock.wallMs())) throw refuse("the code is wrong, used or too old");
      const certificate = await certify(body.edge, body.csrPem);
      store.enroll(body.edge, clock.wallMs());
      log.info({ requestId: call.requestId, edge: body.edge }, "a node was enrolled");
      return certificate;
    },
    renew: ({ body }, call) => certify(edgeOf(call.caller), body.csrPem),
    async accept({ body }, call) {
      const startMs = clock.monotonicMs();
      const receivedNs = clock.wallNs();
      const result = acceptBatches(store, { edge: edgeOf(call.caller), stream: body.stream, epoch: body.epoch }, body.batches, receivedNs);
      for (const { sequence, reason } of result.refused) log.error({ requestId: call.requestId, edge: call.caller, sequence, reason }, "a batch can never be kept");
      return { ...result, receivedNs, durationUs: Math.round((clock.monotonicMs() - startMs) * 1000) };
    },
    mark: async ({ stream, epoch }, call) => ({ durable: store.mark(edgeOf(call.caller), stream, epoch) }),
    async newCode({ body }) {
      const code = randomBytes(CODE_BYTES).toString("base64url");
      const expiresAtMs = clock.wallMs() + body.lifetimeS * 1000;
      // The fingerprint travels with the secret: the node knows whom it talks to before it says the secret.
      const full = `${code}.${Buffer.from(authority.fingerprint, "hex").toString("base64url")}`;
      store.addCode(hashOf(full), expiresAtMs);
      return { code: full, expiresAtMs };
    },
    edges: async () => ({ edges: store.edges().map(({ lastSeenMs, ...edge }) => ({ ...edge, ...(lastSeenMs === null ? {} : { lastSeenMs }) })) }),
    readings: async (input) => readingsOfDevice(store, input),
    audit: async ({ edge }) => ({ publishers: auditOf(store.blocksInOrder(edge)) }),
  };
}

interface Place {
  readonly edge: string;
  readonly stream: string;
  readonly epoch: number;
}

/** Keeps the batches above the mark and moves the mark, in one transaction; what is at or below it was kept before. */
function acceptBatches(store: CloudStore, place: Place, batches: readonly Batch[], receivedNs: bigint): { durable: number; refused: { sequence: number; reason: string }[] } {
  return store.transaction(() => {
    const refused: { sequence: number; reason: string }[] = [];
    let durable = store.mark(place.edge, place.stream, place.epoch);
    const before = durable;
    for (const batch of batches) {
      if (batch.sequence <= durable) continue;
      if (batch.previous > durable) throw fail(CLOUD_SEQUENCE_GAP, `stream '${place.stream}' is durable up to ${durable}; batch ${batch.sequence} follows ${batch.previous}`);
      try {
        store.transaction(() => store.keep(place, { ...batch, queuedNs: BigInt(batch.queuedNs) }, receivedNs));
      } catch (error) {
        // What cannot be read now never can: the mark passes it, so that one bad batch never blocks the queue.
        if (!(error instanceof Failure) || (error.kind !== "invalid" && error.kind !== "too-large")) throw error;
        refused.push({ sequence: batch.sequence, reason: error.message });
      }
      durable = batch.sequence;
    }
    if (durable !== before) store.setMark(place.edge, place.stream, place.epoch, durable);
    return { durable, refused };
  });
}

interface ReadingsInput {
  readonly edge: string;
  readonly device: string;
  readonly resource?: string;
  readonly offset: number;
  readonly limit: number;
}

function readingsOfDevice(store: CloudStore, { edge, device, resource, offset, limit }: ReadingsInput): { totalCount: number; readings: Reading[] } {
  const wanted = (block: Block, column: number) => resource === undefined || block.series.resources[column].name === resource;
  const itemsOf = (block: Block, row: number) => block.columns.reduce((n, column, k) => n + (column[row] !== undefined && wanted(block, k) ? 1 : 0), 0);
  let totalCount = 0;
  for (const piece of store.pieces(edge, device)) {
    for (const block of piece.open()) totalCount += resource === undefined ? readingsOf(block) : block.sequences.reduce((n, _, row) => n + itemsOf(block, row), 0);
  }
  const readings: Reading[] = [];
  for (const { block, row, passed } of newest(store.pieces(edge, device), { skip: offset, itemsOf })) {
    let skip = passed;
    const tag = publisherTag(edge, block.publisher.name);
    for (let column = 0; column < block.columns.length && readings.length < limit; column++) {
      if (block.columns[column][row] === undefined || !wanted(block, column) || skip-- > 0) continue;
      readings.push(readingOf(block, row, column, tag));
    }
    if (readings.length >= limit) break;
  }
  return { totalCount, readings };
}
