/** What the pipeline tells of its outbox and its destinations. */
import { watchJournal } from "../../kernel/metrics/watched.ts";
import type { Metrics } from "../../kernel/metrics/metrics.ts";
import type { Destinations } from "./destinations.ts";
import type { Outbox } from "./outbox/outbox.ts";
import type { PipelineStore } from "./store.ts";

interface Watched {
  readonly outbox: Outbox;
  readonly store: PipelineStore;
  readonly destinations: Destinations;
}

type Counts = ReturnType<Destinations["counts"]>[number];

/** Declares them all. */
export function watchDestinations(metrics: Metrics, { outbox, store, destinations }: Watched): void {
  for (const { name, journal } of Object.values(outbox.queues)) watchJournal(metrics, `outbox-${name}`, journal);
  const each = (type: "counter" | "gauge", name: string, help: string, value: (counts: Counts) => number) =>
    metrics.read(type, `holdfast_${name}`, help, () =>
      destinations.counts().map((counts) => [{ destination: counts.destination }, value(counts)]),
    );
  metrics.read(
    "gauge",
    "holdfast_outbox_waiting_batches",
    "Batches that are not acknowledged yet, by destination and class.",
    () =>
      destinations
        .counts()
        .flatMap(({ destination, waiting }) =>
          waiting.map((of) => [{ destination, class: of.class }, of.batches] as const),
        ),
  );
  each("gauge", "destination_offline", "1 while it does not answer, by destination.", ({ state }) =>
    state === "offline" ? 1 : 0,
  );
  each(
    "counter",
    "destination_readings",
    "Readings that were acknowledged, by destination.",
    (c) => c.acknowledged.readings,
  );
  each(
    "counter",
    "destination_batches",
    "Batches that were acknowledged, by destination.",
    (c) => c.acknowledged.batches,
  );
  each("counter", "destination_sent_bytes", "Bytes that were sent, TLS included, by destination.", (c) => c.bytes.sent);
  each("counter", "destination_received_bytes", "Bytes that were received, TLS included, by destination.", (c) => {
    return c.bytes.received;
  });
  metrics.read("gauge", "holdfast_outbox_dead_letters", "Batches that were refused for good, by destination.", () =>
    destinations.counts().map(({ destination }) => [{ destination }, store.deadLetters.count(destination)]),
  );
  metrics.read(
    "gauge",
    "holdfast_outbox_gaps",
    "Entries of the gap ledger: what did not arrive.",
    () => store.gaps.size,
  );
}
