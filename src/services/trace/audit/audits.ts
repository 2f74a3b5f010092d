/** The rules of the audit trail: who may say what, when identity signs, what is found. */
import { setTimeout as sleep } from "node:timers/promises";
import { makeCall } from "../../../kernel/call.ts";
import { asFailure } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import type { RetentionClock } from "../../../kernel/retention-clock.ts";
import type { Identity } from "../../identity/api.ts";
import type { Trace } from "../api.ts";
import type { AuditLine } from "../chain.api.ts";
import type { AuditTrail, Signer } from "./trail.ts";

export type Audits = Pick<Trace, "audit" | "auditLines" | "auditSearch">;

export interface AuditsOptions {
  readonly trail: AuditTrail;
  readonly retentionClock: RetentionClock;
  readonly identity: Identity;
  readonly log: Log;
}

/** The end of the trail is signed this long after it grew: what is cut off in between is missed by nobody. */
const SIGN_WAIT_MS = 1_000;
const SIGN_TIMEOUT_MS = 2_000;
const LAST_SIGN_MS = 500;

/** Makes the operations, and what signs the rest before the end. */
export function makeAudits({ trail, retentionClock, identity, log }: AuditsOptions): {
  operations: Audits;
  signAll(): Promise<void>;
  close(): void;
} {
  const seconds = (): number => Math.floor(retentionClock.nowMs() / 1000);
  const signer = signerOf(identity);
  let timer: NodeJS.Timeout | undefined;
  const sign = async (): Promise<void> => {
    timer = undefined;
    try {
      await trail.checkpoint(signer, seconds());
    } catch (error) {
      log.debug({ code: asFailure(error).code }, "the audit trail could not be signed yet");
      signSoon();
    }
  };
  const signSoon = (): void => void (timer ??= setTimeout(() => void sign(), SIGN_WAIT_MS).unref());
  return {
    operations: {
      async audit({ body }, call) {
        trail.add(call.caller, body.entries, body.dropped, seconds());
        signSoon();
        return {};
      },
      async auditLines({ after, limit }) {
        // Who asks at the end of the trail gets it under a signature, where identity is there to give one.
        if (after === 0 && !trail.isSigned) await signed();
        return trail.lines(after, limit);
      },
      auditSearch: ({ limit, ...wanted }) => trail.search((line, text) => isWanted(line, text, wanted), limit),
    },
    signAll: signed,
    close() {
      clearTimeout(timer);
      trail.close();
    },
  };

  async function signed(): Promise<void> {
    clearTimeout(timer);
    await Promise.race([sign(), sleep(LAST_SIGN_MS, undefined, { ref: false })]);
  }
}

interface Wanted {
  readonly text?: string;
  readonly who?: string;
  readonly service?: string;
  readonly action?: string;
  readonly outcome?: string;
}

function isWanted(line: AuditLine, text: string, wanted: Wanted): boolean {
  return (
    (wanted.who === undefined || line.who === wanted.who) &&
    (wanted.service === undefined || line.service === wanted.service) &&
    (wanted.action === undefined || line.action === wanted.action) &&
    (wanted.outcome === undefined || line.outcome === wanted.outcome) &&
    (wanted.text === undefined || text.toLowerCase().includes(wanted.text.toLowerCase()))
  );
}

function signerOf(identity: Identity): Signer {
  const within = async <T>(work: (call: ReturnType<typeof makeCall>) => Promise<T>): Promise<T> => {
    const call = makeCall({ caller: "trace", timeoutMs: SIGN_TIMEOUT_MS });
    try {
      return await work(call);
    } finally {
      call.end(false);
    }
  };
  return {
    anchor: () => within((call) => identity.auditAnchor({}, call)),
    sign: (place) => within(async (call) => (await identity.signAudit({ body: place }, call)).signature),
  };
}
