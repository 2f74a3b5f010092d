/** The pipeline's operations: how far it is, and joining a cloud. */
import type { Call } from "../../kernel/call.ts";
import { fail } from "../../kernel/error.ts";
import { type Pipeline, PIPELINE_ENROLL_FAILED } from "./api.ts";
import type { Outbox } from "./outbox.ts";
import type { Enrollment, PipelineStore } from "./store.ts";
import type { Uplink } from "./uplink.ts";

interface Needs {
  readonly edge: string;
  readonly outbox: Outbox;
  readonly store: PipelineStore;
  readonly uplink: Uplink;
  readonly enroll: (url: string, code: string, edge: string, call: Call) => Promise<Enrollment>;
}

/** Makes the pipeline's service. */
export function makePipeline({ edge, outbox, store, uplink, enroll }: Needs): Pipeline {
  let isEnrolling = false;
  return {
    async status() {
      const { losses: now, lossesBefore } = outbox.journal;
      const losses = [...lossesBefore, ...now].map(({ segment: _, ...loss }) => loss);
      const missing = store.missing.map((gap) => ({ ...gap, bytes: 0 }));
      return { position: outbox.followed, destinations: [await uplink.status()], losses: [...losses, ...missing] };
    },
    async enroll({ body }, call) {
      if (isEnrolling) throw fail(PIPELINE_ENROLL_FAILED, "the node is being enrolled by another request");
      isEnrolling = true;
      try {
        const enrollment = uplink.moved(await enroll(body.url, body.code, edge, call));
        // Used before it is kept: what cannot be used must not be what the next start finds.
        uplink.use(enrollment);
        store.enrollment = enrollment;
        return { edge, url: body.url };
      } finally {
        isEnrolling = false;
      }
    },
  };
}
