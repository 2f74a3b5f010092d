/** The pipeline's operations: how far it is, and joining a cloud. */
import type { Call } from "../../kernel/call.ts";
import type { Pipeline } from "./api.ts";
import type { Outbox } from "./outbox.ts";
import type { Enrollment, PipelineStore } from "./store.ts";
import type { Uplink } from "./uplink.ts";

interface Needs {
  readonly edge: string;
  readonly outbox: Outbox;
  readonly store: PipelineStore;
  readonly uplink: Uplink;
  enroll(url: string, code: string, edge: string, call: Call): Promise<Enrollment>;
}

/** Makes the pipeline's service. */
export function makePipeline({ edge, outbox, store, uplink, enroll }: Needs): Pipeline {
  return {
    status: async () => ({ position: outbox.followed, destinations: [uplink.status()], losses: outbox.journal.losses.map(({ segment: _, ...loss }) => loss) }),
    async enroll({ body }, call) {
      const enrollment = await enroll(body.url, body.code, edge, call);
      store.enrollment = enrollment;
      uplink.use(enrollment);
      return { edge, url: body.url };
    },
  };
}
