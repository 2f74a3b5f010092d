/** TumblingWindow and HoppingWindow: windows at times of the clock, that follow each other or overlap. */
import { type Static, Type } from "typebox";
import type { Series } from "../../../kernel/events/model.ts";
import { code, fail } from "../../../kernel/error.ts";
import { field } from "../../../kernel/service.ts";
import type { Rows } from "./rows.ts";
import type { Notes, SeriesFunction } from "./series.ts";
import { floorDiv, nsOf, shortTime } from "./time.ts";
import { Glazier, loadPane, type Pane, savePane, type SavedPane, windowFields } from "./windows.ts";

export const PIPELINE_WINDOW_INVALID = code(
  "PIPELINE_WINDOW_INVALID",
  "invalid",
  "Give a hopping window a hop of at most its size, and of at least one 64th of it.",
);

/** Hopping windows that overlap at one moment, at most; a spec of more is PIPELINE_WINDOW_INVALID. */
const OVERLAP_MAX = 64;

const SizeMs = field(Type.Integer({ minimum: 1, maximum: 31_536_000_000 }), {
  description: "Milliseconds that a window lasts; windows begin at multiples of it (of the hop) since 1970.",
  default: undefined,
  example: 60_000,
});
const LatenessMs = field(Type.Integer({ minimum: 0, maximum: 86_400_000 }), {
  description:
    "Milliseconds, by the readings' origins, that a window waits for late ones. What comes later passes as it is.",
  default: 0,
  example: 5_000,
});

/**
 * TumblingWindow. Guarantee: every number goes into exactly one window, that of its event's origin, or, when that is closed, passes
 * as it is and is counted as late. A window is told once: when a reading comes that is `latenessMs` beyond its end, or when
 * the series is silent for so long. If the series has to make room for others, or its time is set back by more than
 * a window's size and the lateness, what there is so far is told, and the rest as a second event of the same time.
 * The derived event has the time at which the window begins.
 */
export const TumblingWindow = Type.Object(
  { function: Type.Literal("TumblingWindow"), ...windowFields, sizeMs: SizeMs, latenessMs: LatenessMs },
  { additionalProperties: false },
);

/** HoppingWindow. Guarantee: as TumblingWindow, but a window begins every `hopMs`, and a number goes into all that it falls into. */
export const HoppingWindow = Type.Object(
  {
    function: Type.Literal("HoppingWindow"),
    ...windowFields,
    sizeMs: SizeMs,
    hopMs: field(Type.Integer({ minimum: 1, maximum: 31_536_000_000 }), {
      description: "Milliseconds from the begin of a window to that of the next; at most its size.",
      default: undefined,
      example: 10_000,
    }),
    latenessMs: LatenessMs,
  },
  { additionalProperties: false },
);

interface State {
  readonly glazier: Glazier;
  /** In order of their begin. */
  open: Pane[];
  /** The newest origin since time was last set back. */
  newestNs: bigint | undefined;
  /** The end of the last window that was closed since then: what falls before it is late. */
  closedNs: bigint | undefined;
}

type Spec = Static<typeof TumblingWindow> | Static<typeof HoppingWindow>;

/** Makes the function of TumblingWindow or HoppingWindow. Fails PIPELINE_WINDOW_INVALID. */
export function tumblingFunction(spec: Spec, pipeline: string | undefined): SeriesFunction<State> {
  const windows = new Windows(spec);
  const isHopping = spec.function === "HoppingWindow";
  const as = isHopping ? `${shortTime(spec.sizeMs)}-${shortTime(spec.hopMs)}` : shortTime(spec.sizeMs);
  const begin = (series: Series): State => ({
    glazier: new Glazier(series, spec, as, pipeline),
    open: [],
    newestNs: undefined,
    closedNs: undefined,
  });
  return {
    begin,
    push(state, block, out) {
      const late = new Set<number>();
      for (let row = 0; row < block.sequences.length; row++) {
        if (!state.glazier.hasNumber(block, row)) continue;
        const panes = windows.panesAt(state, block.origins[row], out);
        if (panes.length === 0) late.add(row);
        for (const pane of panes) state.glazier.add(pane, block, row);
      }
      windows.notes.readingsLate = (windows.notes.readingsLate as number) + state.glazier.passing(block, late, out);
    },
    tick: (state, nowNs, out) => windows.close(state, nowNs, out),
    flush: (state, out) => windows.closeAll(state, out),
    bytes: ({ glazier, open }) => glazier.bytes(open),
    save: ({ open, newestNs, closedNs }) => ({ open: open.map(savePane), newestNs, closedNs }),
    load(saved, series) {
      const { open, newestNs, closedNs } = saved as { open: SavedPane[] } & Record<string, bigint | number | undefined>;
      const nsOrNone = (ns: bigint | number | undefined) => (ns === undefined ? undefined : BigInt(ns));
      return { ...begin(series), open: open.map(loadPane), newestNs: nsOrNone(newestNs), closedNs: nsOrNone(closedNs) };
    },
    notes: windows.notes,
  };
}

/** Where the windows of a spec begin and end. */
class Windows {
  readonly notes: Notes = { readingsLate: 0 };
  readonly #sizeNs: bigint;
  readonly #hopNs: bigint;
  readonly #latenessNs: bigint;
  /** So many windows that follow each other may have the same last reading. */
  readonly #parts: bigint;

  constructor(spec: Spec) {
    const hopMs = spec.function === "HoppingWindow" ? spec.hopMs : spec.sizeMs;
    if (hopMs > spec.sizeMs || spec.sizeMs / hopMs > OVERLAP_MAX)
      throw fail(
        PIPELINE_WINDOW_INVALID,
        `a hop of ${hopMs} ms in a window of ${spec.sizeMs} ms; from one ${OVERLAP_MAX}th to the whole of it is possible`,
      );
    this.#sizeNs = nsOf(spec.sizeMs);
    this.#hopNs = nsOf(hopMs);
    this.#latenessNs = nsOf(spec.latenessMs);
    this.#parts = (this.#sizeNs + this.#hopNs - 1n) / this.#hopNs;
  }

  /** Finds the open windows of a time, and opens those that are missing; none when all are closed already. */
  panesAt(state: State, originNs: bigint, out: Rows): Pane[] {
    if (state.newestNs !== undefined && state.newestNs - originNs > this.#sizeNs + this.#latenessNs) {
      // Time was set back, or had been wrong: it begins anew.
      this.closeAll(state, out);
      state.newestNs = undefined;
      state.closedNs = undefined;
    }
    if (state.newestNs === undefined || originNs > state.newestNs) state.newestNs = originNs;
    this.close(state, state.newestNs, out);
    const found: Pane[] = [];
    const last = floorDiv(originNs, this.#hopNs) * this.#hopNs;
    for (let startNs = last; startNs + this.#sizeNs > originNs; startNs -= this.#hopNs) {
      if (state.closedNs !== undefined && startNs + this.#sizeNs <= state.closedNs) break;
      found.push(paneAt(state, startNs));
    }
    return found;
  }

  close(state: State, nowNs: bigint, out: Rows): void {
    while (state.open.length > 0) {
      const endNs = state.open[0].startNs + this.#sizeNs;
      if (endNs + this.#latenessNs > nowNs) return;
      this.#tell(state, state.open.shift() as Pane, out);
      state.closedNs = endNs;
    }
  }

  /** Closes all. What follows in the same windows is told apart. */
  closeAll(state: State, out: Rows): void {
    for (const pane of state.open) this.#tell(state, pane, out);
    state.open = [];
  }

  #tell({ glazier }: State, pane: Pane, out: Rows): void {
    const number = floorDiv(pane.startNs, this.#hopNs) % this.#parts;
    const part = number < 0n ? number + this.#parts : number;
    glazier.close(pane, out, pane.startNs, this.#parts > 1n ? Number(part) : undefined);
  }
}

function paneAt({ open, glazier }: State, startNs: bigint): Pane {
  let at = open.length;
  while (at > 0 && open[at - 1].startNs > startNs) at--;
  if (at > 0 && open[at - 1].startNs === startNs) return open[at - 1];
  const pane = glazier.begin(startNs);
  open.splice(at, 0, pane);
  return pane;
}
