/** The pipeline's operations: how far it is, joining a cloud, and what was refused. */
import type { Call } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { asFailure, fail } from "../../kernel/error.ts";
import { decodeBlocks } from "../../kernel/events/codec.ts";
import { type EdgexEvent, rowToEvent } from "../../kernel/events/edgex.ts";
import { publisherTag } from "../../kernel/events/ids.ts";
import {
  type DeadLetter,
  type Destination,
  LETTER_EVENTS_MAX,
  type Pipeline,
  PIPELINE_ENROLL_FAILED,
  PIPELINE_LETTER_UNKNOWN,
} from "./api.ts";
import type { pipelineOperations } from "./pipelines.api.ts";
import { type DeadLetter as Letter, tallyOf } from "./outbox/dead-letters.ts";
import type { Gaps } from "./outbox/gaps.ts";
import type { Outbox } from "./outbox/outbox.ts";
import type { Enrollment, PipelineStore } from "./store.ts";
import type { Enrolled } from "./uplink/enrolled.ts";
import type { Works } from "./works.ts";

/** Entries of the gap ledger that the status shows. */
const GAPS_SHOWN = 20;

export interface ServiceNeeds {
  readonly edge: string;
  readonly outbox: Outbox;
  readonly store: PipelineStore;
  readonly gaps: Gaps;
  readonly cloud: Enrolled;
  readonly clock: Clock;
  readonly destinations: () => Promise<Destination[]>;
  readonly works: Works;
  readonly enroll: (url: string, code: string, edge: string, call: Call) => Promise<Enrollment>;
}

/** Makes the pipeline's service. */
export function makePipeline(needs: ServiceNeeds): Pipeline {
  const { edge, outbox, store, cloud, enroll, works } = needs;
  let isEnrolling = false;
  return {
    async status() {
      const losses = Object.values(outbox.queues)
        .flatMap(({ journal }) => [...journal.lossesBefore, ...journal.losses])
        .map(({ segment: _, ...loss }) => loss);
      const gaps = { totalCount: store.gaps.size, newest: store.gaps.list(GAPS_SHOWN) };
      const backfills = works.backfills.all.map(({ id, state, readings, share }) => ({ id, state, readings, share }));
      return { position: works.pipelines.position, destinations: await needs.destinations(), losses, gaps, backfills };
    },
    ...makeDeadLetters(needs),
    ...makeWorks(works),
    async forgetDevice({ body }) {
      outbox.forget(body.device);
      store.deadLetters.forget(body.device);
      return {};
    },
    async enroll({ body }, call) {
      if (isEnrolling) throw fail(PIPELINE_ENROLL_FAILED, "the node is being enrolled by another request");
      isEnrolling = true;
      try {
        const enrollment = cloud.moved(await enroll(body.url, body.code, edge, call));
        // Used before it is kept: what cannot be used must not be what the next start finds.
        cloud.use(enrollment);
        store.enrollment = enrollment;
        return { edge, url: body.url };
      } finally {
        isEnrolling = false;
      }
    },
  };
}

type WorkOperations = keyof typeof pipelineOperations;

function makeWorks(works: Works): Pick<Pipeline, WorkOperations> {
  const { pipelines, rules } = works;
  return {
    pipelines: async () => ({ pipelines: pipelines.status(await works.last()) }),
    async setPipeline({ name, body }) {
      await pipelines.set(name, body);
      return { name };
    },
    async removePipeline({ name }) {
      await pipelines.remove(name);
      return { name };
    },
    leaves: async () => ({ resources: pipelines.leaves() }),
    rules: async () => ({ rules: rules.status() }),
    async setRule({ name, body }) {
      rules.set(name, body);
      return { name };
    },
    async removeRule({ name }) {
      rules.remove(name);
      return { name };
    },
  };
}

type DeadLetterOperations = "deadLetters" | "deadLetter" | "replayDeadLetter" | "dropDeadLetter";

function makeDeadLetters({ edge, gaps, outbox, store }: ServiceNeeds): Pick<Pipeline, DeadLetterOperations> {
  const found = (id: number) => {
    const one = store.deadLetters.get(id);
    if (!one) throw fail(PIPELINE_LETTER_UNKNOWN, `there is no dead letter ${id}`);
    return one;
  };
  return {
    deadLetters: async ({ limit }) => ({ deadLetters: store.deadLetters.list(limit).map(shown) }),
    async deadLetter({ id }) {
      const { letter, blocks } = found(id);
      const deadLetter = shown(letter);
      try {
        return { deadLetter, events: eventsIn(blocks, edge) };
      } catch (error) {
        return { deadLetter, events: [], unreadable: asFailure(error).message };
      }
    },
    async replayDeadLetter({ id }) {
      const { letter, blocks } = found(id);
      // Twice, where the power goes between the two, rather than never.
      await outbox.addAgain({ ...letter, destinations: [letter.destination] }, blocks);
      store.deadLetters.remove(id);
      return {};
    },
    async dropDeadLetter({ id }) {
      const { letter } = found(id);
      store.transaction(() => {
        gaps.add(tallyOf(letter), "dropped-by-person");
        store.deadLetters.remove(id);
      });
      return {};
    },
  };
}

function shown({ id, destination, pipeline, priority, reason, atMs, events, readings, bytes }: Letter): DeadLetter {
  return { id, destination, pipeline, priority, reason, atMs, events, readings, bytes };
}

function eventsIn(bytes: Uint8Array, edge: string): EdgexEvent[] {
  const events: EdgexEvent[] = [];
  for (const block of decodeBlocks(bytes))
    for (let row = 0; row < block.sequences.length && events.length < LETTER_EVENTS_MAX; row++)
      events.push(rowToEvent(block, row, publisherTag(edge, block.publisher.name)));
  return events;
}
