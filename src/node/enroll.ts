/** The cloud beside the node: asked for a code, and the pipeline joined to it with that, where it is not joined already. */
import { setTimeout as sleep } from "node:timers/promises";
import { asFailure } from "../kernel/error.ts";
import type { Log } from "../kernel/log.ts";
import { cloud } from "../services/cloud/api.ts";
import { pipeline } from "../services/pipeline/api.ts";
import type { Supervisor } from "./supervisor.ts";

const CODE_LIFETIME_S = 60;
const TRY_TIMEOUT_MS = 10_000;
const RETRY_MS = 500;
const RETRY_MS_MAX = 15_000;

export interface EnrollOptions {
  readonly supervisor: Supervisor;
  /** Where the cloud is this time. */
  readonly url: string;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** Joins the pipeline to the cloud beside it, trying until that is done or `signal` aborts. A pipeline that is joined to another cloud stays so. */
export async function enrollBeside(options: EnrollOptions): Promise<void> {
  const { supervisor, url, log, signal } = options;
  for (let failures = 0; !signal.aborted; failures++) {
    try {
      return await enrollOnce(supervisor, url);
    } catch (error) {
      if (signal.aborted) return;
      const { code, message } = asFailure(error);
      log[failures === 3 ? "warn" : "info"](
        { code, failures },
        `the pipeline is not joined to the cloud beside it yet: ${message}`,
      );
      await sleep(Math.random() * Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** failures), undefined, { signal }).catch(
        () => undefined,
      ); // Only the abort rejects; the loop sees it.
    }
  }
}

async function enrollOnce(supervisor: Supervisor, url: string): Promise<void> {
  const call = supervisor.call(TRY_TIMEOUT_MS);
  try {
    const { destinations } = await supervisor.connect(pipeline).status({}, call);
    const joined = destinations.find(({ state }) => state !== "not-enrolled");
    // Enrolled elsewhere by hand, or here before and at the same address: nothing to do. Here before, at another port: again.
    if (joined && (joined.url === url || !isBeside(joined.url))) return;
    const { code } = await supervisor.connect(cloud).newCode({ body: { lifetimeS: CODE_LIFETIME_S } }, call);
    await supervisor.connect(pipeline).enroll({ body: { url, code } }, call);
  } finally {
    call.end(false);
  }
}

const isBeside = (url: string): boolean => URL.parse(url)?.hostname === "127.0.0.1";
