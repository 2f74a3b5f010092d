/** The rules of the cloud: whom it enrolls, that each batch counts once, what it answers. */
import { acceptBatches } from "./accept.ts";
import type { Cloud } from "./api.ts";
import { Audit } from "./audit.ts";
import { edgeOf, type EnrollmentNeeds, makeEnrollment } from "./enrollment.ts";
import { readingsOfDevice, turns } from "./query.ts";

/** Makes the cloud. */
export function makeCloud(needs: EnrollmentNeeds): Cloud {
  const { store, authority, name, clock, log } = needs;
  return {
    authority: async () => ({ node: name, caPem: authority.certPem }),
    ...makeEnrollment(needs),
    async accept({ body: { stream, epoch, batches } }, call) {
      const startMs = clock.monotonicMs();
      const receivedNs = clock.wallNs();
      const place = { edge: edgeOf(call.caller), stream, epoch };
      const { durable, refused, news } = acceptBatches(store, place, batches, receivedNs);
      for (const { sequence, reason } of news)
        log.error({ requestId: call.requestId, edge: call.caller, sequence, reason }, "a batch can never be kept");
      return { durable, refused, receivedNs, durationUs: Math.round((clock.monotonicMs() - startMs) * 1000) };
    },
    async mark({ stream, epoch }, call) {
      const place = { edge: edgeOf(call.caller), stream, epoch };
      const through = store.through(place.edge, stream);
      return {
        durable: store.mark(place),
        ...(through === undefined ? {} : { through }),
        refused: store.refusals(place, 0),
      };
    },
    edges: async () => ({
      edges: store
        .edges()
        .map(({ lastSeenMs, ...edge }) => ({ ...edge, ...(lastSeenMs === null ? {} : { lastSeenMs }) })),
    }),
    readings: (input, call) => readingsOfDevice(store, input, call.signal),
    async audit({ edge }, call) {
      const audit = new Audit();
      const turn = turns(call.signal);
      for (const batch of store.batchesInOrder(edge)) {
        audit.add(batch);
        await turn();
      }
      return { publishers: audit.result() };
    },
  };
}
