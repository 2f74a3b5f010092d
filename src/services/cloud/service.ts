/** The rules of the cloud: whom it enrolls, that each batch counts once, what it answers. */
import { acceptBatches } from "./accept.ts";
import type { Cloud, EdgeStatus } from "./api.ts";
import { Audit } from "./audit.ts";
import { ClockOffsets } from "./clock-offset.ts";
import { edgeOf, type EnrollmentNeeds, makeEnrollment } from "./enrollment.ts";
import { readingsOfDevice, turns } from "./query.ts";
import type { EdgeRow } from "./store.ts";

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
      const { durable, refused, news } = acceptBatches(store, place, body, { receivedNs, aheadNs: offset?.aheadNs });
      if (offset?.isNew) store.setClock(place.edge, offset);
      for (const { sequence, reason } of news)
        log.error({ requestId: call.requestId, edge: call.caller, sequence, reason }, "a batch can never be kept");
      const durationUs = Math.round((clock.monotonicMs() - startMs) * 1000);
      return { durable, refused, receivedNs, durationUs };
    },
    async mark({ stream, epoch }, call) {
      const place = { edge: edgeOf(call.caller), stream, epoch };
      return {
        settled: store.settled(place),
        pipelines: store.sources(place.edge, stream),
        refused: store.refusals(place, 0),
      };
    },
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
