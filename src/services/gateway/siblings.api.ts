/** What the processes of one door tell each other, so that a client's tries and requests count wherever they come in. */
import { type Static, Type } from "typebox";

/** Items of each kind in one message. */
export const NEWS_MAX = 256;
const Name = Type.String({ maxLength: 512 });
const list = <T extends Parameters<typeof Type.Array>[0]>(item: T) => Type.Array(item, { maxItems: NEWS_MAX });

/** Somebody's try to say who they are. */
const Try = Type.Object({
  /** As the limits name it. */
  client: Type.String({ maxLength: 64 }),
  who: Type.Optional(Name),
  cameIn: Type.Boolean(),
});
export type Try = Static<typeof Try>;

/** So many requests of a key were let through by a limit since the last message. */
const Count = Type.Object({ limit: Name, key: Name, count: Type.Integer({ minimum: 1 }) });
export type Count = Static<typeof Count>;

/** All that a key has left to pay: what a process is told that has just come up. */
const Debt = Type.Object({ limit: Name, key: Name, ms: Type.Number({ minimum: 0 }) });
export type Debt = Static<typeof Debt>;

const Breaking = Type.Object({ upstream: Name, open: Type.Boolean() });
export type Breaking = Static<typeof Breaking>;

/** A browser's session that was ended before its time. */
const Ended = Type.Object({ id: Name, untilMs: Type.Number() });
export type Ended = Static<typeof Ended>;

export const News = Type.Object({
  tries: list(Try),
  counts: list(Count),
  debts: list(Debt),
  breakers: list(Breaking),
  ended: list(Ended),
});
export type News = Static<typeof News>;
