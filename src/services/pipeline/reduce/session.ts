/** SessionWindow and CountWindow: windows that begin and end where the readings do. */
import { type Static, Type } from "typebox";
import type { Series } from "../../../kernel/events/model.ts";
import { field } from "../../../kernel/service.ts";
import type { Rows } from "./rows.ts";
import type { SeriesFunction } from "./series.ts";
import { nsOf, shortTime } from "./time.ts";
import { Glazier, loadPane, type Pane, savePane, type SavedPane, windowFields } from "./windows.ts";

/** A session lasts so long at most; then another begins. */
export const SESSION_MS_MAX = 86_400_000;

/**
 * SessionWindow. Guarantee: every number goes into exactly one window; in a window no reading is further than `gapMs` from the
 * others, and between one window and the next there is a longer gap, or SESSION_MS_MAX is reached. A window is told when a reading
 * comes that does not belong to it, or the series is silent for `gapMs`. The derived event has the origin of the first
 * reading.
 */
export const SessionWindow = Type.Object(
  {
    function: Type.Literal("SessionWindow"),
    ...windowFields,
    gapMs: field(Type.Integer({ minimum: 1, maximum: SESSION_MS_MAX }), {
      description: "Milliseconds without a reading after which a window ends.",
      default: undefined,
      example: 30_000,
    }),
  },
  { additionalProperties: false },
);

/**
 * CountWindow. Guarantee: every number goes into exactly one window, and a window holds `count` events of a series that follow each
 * other and have a number; what was flushed holds fewer. The derived event has the origin of the first.
 */
export const CountWindow = Type.Object(
  {
    function: Type.Literal("CountWindow"),
    ...windowFields,
    count: field(Type.Integer({ minimum: 1, maximum: 1_000_000_000 }), {
      description: "Events of a window.",
      default: undefined,
      example: 100,
    }),
  },
  { additionalProperties: false },
);

interface State {
  readonly glazier: Glazier;
  open: Pane | undefined;
}

type Spec = Static<typeof SessionWindow> | Static<typeof CountWindow>;

/** What is particular to a kind. */
interface Kind {
  readonly as: string;
  /** Whether a row of this time belongs to a pane. */
  takes(pane: Pane, originNs: bigint): boolean;
  isFull(pane: Pane): boolean;
  isOver(pane: Pane, nowNs: bigint): boolean;
}

function kindOf(spec: Spec): Kind {
  if (spec.function === "CountWindow")
    return {
      as: `${spec.count}events`,
      takes: () => true,
      isFull: ({ rows }) => rows >= spec.count,
      isOver: () => false,
    };
  const gapNs = nsOf(spec.gapMs);
  const longestNs = nsOf(SESSION_MS_MAX);
  return {
    as: `session${shortTime(spec.gapMs)}`,
    // The first reading is the oldest but for those that came out of order: they belong to it, too.
    takes: ({ startNs, lastNs }, originNs) =>
      originNs >= startNs - gapNs && originNs <= lastNs + gapNs && originNs - startNs <= longestNs,
    isFull: () => false,
    isOver: ({ lastNs }, nowNs) => nowNs > lastNs + gapNs,
  };
}

/** Makes the function of SessionWindow or CountWindow. */
export function sessionFunction(spec: Spec, pipeline: string | undefined): SeriesFunction<State> {
  const kind = kindOf(spec);
  const begin = (series: Series): State => ({
    glazier: new Glazier(series, spec, kind.as, pipeline),
    open: undefined,
  });
  const close = (state: State, out: Rows) => {
    if (state.open) state.glazier.close(state.open, out);
    state.open = undefined;
  };
  return {
    begin,
    push(state, block, out) {
      const { glazier } = state;
      for (let row = 0; row < block.sequences.length; row++) {
        if (!glazier.hasNumber(block, row)) continue;
        const origin = block.origins[row];
        if (state.open && !kind.takes(state.open, origin)) close(state, out);
        state.open ??= glazier.begin(origin);
        glazier.add(state.open, block, row);
        if (kind.isFull(state.open)) close(state, out);
      }
      glazier.passing(block, new Set(), out);
    },
    tick: (state, nowNs, out) => {
      if (state.open && kind.isOver(state.open, nowNs)) close(state, out);
    },
    flush: close,
    bytes: ({ glazier, open }) => glazier.bytes(open ? [open] : []),
    save: ({ open }) => open && savePane(open),
    load: (saved, series) => ({ ...begin(series), open: saved ? loadPane(saved as SavedPane) : undefined }),
  };
}
