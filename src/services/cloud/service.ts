/** The rules of the cloud: whom it enrolls, that each batch counts once, what it answers. */
import { randomBytes } from "node:crypto";
import { fail } from "../../kernel/error.ts";
import { acceptBatches } from "./accept.ts";
import type { Cloud, EdgeStatus } from "./api.ts";
import { Audit } from "./audit.ts";
import {
  type backfillOperations,
  BACKFILLS_MAX,
  type BackfillRequest,
  CLOUD_BACKFILL_INVALID,
  CLOUD_BACKFILL_UNKNOWN,
  CLOUD_BACKFILLS_OPEN,
  CLOUD_EDGE_UNKNOWN,
} from "./backfill.api.ts";
import { ClockOffsets } from "./clock-offset.ts";
import { edgeOf, type EnrollmentNeeds, makeEnrollment } from "./enrollment.ts";
import { findKnown } from "./known.ts";
import { readingsOfDevice, turns } from "./query.ts";
import type { EdgeRow } from "./store.ts";

/** An id is never given twice, whatever the database was restored from: nodes remember how far they are by it. */
const ID_BYTES = 6;
const EDGE_SHOWN = 63;

/** Makes the cloud. */
export function makeCloud(needs: EnrollmentNeeds): Cloud {
  const { store, authority, name, clock, log } = needs;
  const offsets = new ClockOffsets();
  return {
    authority: async () => ({ node: name, caPem: authority.certPem }),
    ...makeEnrollment(needs),
    async accept({ body }, call) {
      const startMs = clock.monotonicMs();
      const receivedNs = clock.wallNs();
      const place = { edge: edgeOf(call.caller), stream: body.stream, epoch: body.epoch };
      const offset = offsets.heard(place.edge, { sentNs: body.sentNs, receivedNs, heard: body.heard });
      const known = await findKnown(store, place.edge, body.batches, turns(call.signal));
      const arrival = { receivedNs, aheadNs: offset?.aheadNs };
      const { durable, refused, news } = acceptBatches(store, place, body, arrival, known);
      if (offset?.isNew) store.setClock(place.edge, offset);
      for (const { sequence, reason } of news)
        log.error({ requestId: call.requestId, edge: call.caller, sequence, reason }, "a batch can never be kept");
      const durationUs = Math.round((clock.monotonicMs() - startMs) * 1000);
      return { durable, refused, receivedNs, durationUs, ...asked(store.backfills.open(place.edge, false)) };
    },
    async mark({ stream, epoch }, call) {
      const place = { edge: edgeOf(call.caller), stream, epoch };
      return {
        settled: store.settled(place),
        pipelines: store.sources(place.edge, stream),
        refused: store.refusals(place, 0),
        backfills: store.backfills.open(place.edge, true),
      };
    },
    ...makeBackfills(needs),
    async reportGaps({ body: { gaps } }, call) {
      store.gaps.add(edgeOf(call.caller), gaps);
      return {};
    },
    gaps: async ({ edge, limit }) => store.gaps.list(edge, limit),
    edges: async () => ({ edges: store.edges().map((edge) => statusOf(edge, store.dwellMs(edge.edge))) }),
    readings: (input, call) => readingsOfDevice(store, input, call.signal),
    async audit({ edge }, call) {
      const audit = new Audit();
      const turn = turns(call.signal);
      for (const batch of store.kept.batchesInOrder(edge)) {
        audit.add(batch.pipeline, batch.blocks);
        await turn();
      }
      return { publishers: audit.result() };
    },
  };
}

type BackfillOperations = keyof typeof backfillOperations;

function makeBackfills({ store, clock }: EnrollmentNeeds): Pick<Cloud, BackfillOperations> {
  return {
    async backfill({ body: { edge, ...range } }) {
      const known = edge.slice(0, EDGE_SHOWN);
      if (!store.hasEdge(edge)) throw fail(CLOUD_EDGE_UNKNOWN, `no node '${known}' is enrolled`);
      if (range.fromNs > range.toNs)
        throw fail(CLOUD_BACKFILL_INVALID, `it would begin at ${range.fromNs}, after its end at ${range.toNs}`);
      if (store.backfills.open(edge, true).length >= BACKFILLS_MAX)
        throw fail(CLOUD_BACKFILLS_OPEN, `node '${known}' is asked for ${BACKFILLS_MAX} ranges already`);
      const id = randomBytes(ID_BYTES).toString("hex");
      store.backfills.add(edge, { id, ...range }, clock.wallMs());
      return { id };
    },
    backfills: async ({ edge, limit }) => ({ backfills: store.backfills.list(edge, limit) }),
    async cancelBackfill({ edge, id }) {
      if (!store.backfills.cancel(edge, id)) throw fail(CLOUD_BACKFILL_UNKNOWN, `no open backfill has the id ${id}`);
      return {};
    },
    async reportBackfills({ body: { backfills } }, call) {
      const edge = edgeOf(call.caller);
      return { unwanted: backfills.filter((one) => !store.backfills.told(edge, one)).map(({ id }) => id) };
    },
  };
}

const asked = (backfills: readonly BackfillRequest[]) => (backfills.length > 0 ? { backfills: [...backfills] } : {});

const MS = 1e6;

function statusOf({ lastSeenMs, aheadNs, errorNs, ...edge }: EdgeRow, dwellMs: readonly number[]): EdgeStatus {
  const at = (part: number) => Math.round(10 * dwellMs[Math.floor(part * (dwellMs.length - 1))]) / 10;
  return {
    ...edge,
    ...(lastSeenMs === null ? {} : { lastSeenMs }),
    ...(dwellMs.length === 0 ? {} : { dwellMs: { p50: at(0.5), p99: at(0.99) } }),
    ...(aheadNs === null || errorNs === null ? {} : { clock: { aheadMs: aheadNs / MS, errorMs: errorNs / MS } }),
  };
}
