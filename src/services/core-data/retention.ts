/** How long what is kept: by the rules of the config, by what a device's AutoEvents say, and by the default. */
import { type Static, Type } from "typebox";
import type { Device } from "../../kernel/edgex.ts";
import { parseDurationMs } from "../../kernel/duration.ts";
import { Failure } from "../../kernel/error.ts";
import type { Series } from "../../kernel/events/model.ts";
import { field } from "../../kernel/service.ts";

const RULES_MAX = 256;
const PATTERN_LENGTH_MAX = 1_024;
const S_PER_HOUR = 3_600;

const Pattern = Type.String({ minLength: 1, maxLength: PATTERN_LENGTH_MAX });
export const KeepHours = Type.Integer({ minimum: 1, maximum: 876_000 });

const RetentionRule = Type.Object(
  {
    devices: field(Pattern, {
      description: "Names of the devices that it is about; '*' stands for any text.",
      default: "*",
      example: "pump-*",
    }),
    resources: field(Pattern, {
      description: "Names of their resources; '*' stands for any text.",
      default: "*",
      example: "Vibration*",
    }),
    keepHours: field(KeepHours, {
      description: "Hours that these readings are kept at the edge.",
      default: undefined,
      example: 24,
    }),
  },
  { additionalProperties: false },
);
export type RetentionRule = Static<typeof RetentionRule>;
/** The first rule that fits a device and resource counts. */
export const RetentionRules = Type.Array(RetentionRule, { maxItems: RULES_MAX });

/** Who says how long: a rule of the config, the device's AutoEvent, or the config's default. */
export type KeptBy = "rule" | "device" | "default";

export interface ResourceKeep {
  readonly seconds: number;
  readonly by: KeptBy;
}

/** Of a device's source: how long each of its resources is kept, and how many events. */
export interface SeriesKeep {
  /** By column. */
  readonly resources: readonly ResourceKeep[];
  /** That of the column that is kept longest. */
  readonly secondsMax: number;
  readonly secondsMin: number;
  /** So many of the newest events stay, however old they are. */
  readonly eventsMin: number;
  /** Above so many events the oldest go; 0: however many there are. */
  readonly eventsMax: number;
  /** So many are left then. */
  readonly eventsLeft: number;
}

/** What an AutoEvent says. */
interface Wish {
  readonly seconds: number | undefined;
  readonly minCap: number;
  readonly maxCap: number;
}

export class Retention {
  readonly #rules: readonly { fitsDevice: RegExp; fitsResource: RegExp; seconds: number }[];
  readonly #keepHours: number;
  #wishes: ReadonlyMap<string, Wish> = new Map();
  #known = new WeakMap<Series, SeriesKeep>();

  constructor({ rules, keepHours }: { readonly rules: readonly RetentionRule[]; readonly keepHours: number }) {
    this.#keepHours = keepHours;
    this.#rules = rules.map((rule) => ({
      fitsDevice: expressionOf(rule.devices),
      fitsResource: expressionOf(rule.resources),
      seconds: rule.keepHours * S_PER_HOUR,
    }));
  }

  /** Takes what the AutoEvents of all devices say, in the place of what they said before. */
  learn(devices: Iterable<Pick<Device, "name" | "autoEvents">>): void {
    const wishes = new Map<string, Wish>();
    for (const { name, autoEvents } of devices)
      for (const { sourceName, retention } of autoEvents ?? [])
        if (retention) wishes.set(keyOf(name, sourceName), wishOf(retention));
    this.#wishes = wishes;
    this.#known = new WeakMap();
  }

  /** Tells how long a series is kept. */
  of(series: Series): SeriesKeep {
    const known = this.#known.get(series);
    if (known) return known;
    const { deviceName, sourceName, resources } = series;
    const wish = this.#wishes.get(keyOf(deviceName, sourceName));
    const rules = this.#rules.filter(({ fitsDevice }) => fitsDevice.test(deviceName));
    const keeps = resources.map(({ name }): ResourceKeep => {
      const rule = rules.find(({ fitsResource }) => fitsResource.test(name));
      if (rule) return { seconds: rule.seconds, by: "rule" };
      if (wish?.seconds !== undefined) return { seconds: wish.seconds, by: "device" };
      return { seconds: this.#keepHours * S_PER_HOUR, by: "default" };
    });
    const seconds = keeps.map((keep) => keep.seconds);
    const { minCap = 0, maxCap = 0 } = wish ?? {};
    const made = {
      resources: keeps,
      secondsMax: Math.max(0, ...seconds),
      secondsMin: Math.min(...seconds),
      eventsMin: keeps.some(({ by }) => by === "device") ? minCap : 0,
      eventsMax: maxCap,
      eventsLeft: minCap > 0 && minCap < maxCap ? minCap : maxCap,
    };
    this.#known.set(series, made);
    return made;
  }
}

const keyOf = (device: string, source: string): string => `${device.length} ${device}${source}`;

/** EdgeX: 0 and -1 are no cap, and an empty or zero duration is none. */
function wishOf({
  maxCap = 0,
  minCap = 0,
  duration = "",
}: {
  maxCap?: number;
  minCap?: number;
  duration?: string;
}): Wish {
  return { seconds: secondsOf(duration), maxCap: Math.max(0, maxCap), minCap: Math.max(0, minCap) };
}

function secondsOf(duration: string): number | undefined {
  try {
    return Math.max(1, Math.round(parseDurationMs(duration) / 1_000));
  } catch (error) {
    // core-metadata has taken it: what it says is not known, and the default counts.
    if (error instanceof Failure) return undefined;
    throw error;
  }
}

const expressionOf = (pattern: string): RegExp =>
  new RegExp(
    `^${pattern
      .split("*")
      .map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&"))
      .join(".*")}$`,
    "su",
  );
