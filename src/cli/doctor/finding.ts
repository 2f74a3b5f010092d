/** What a checkup finds: one thing each, in a sentence, with what it costs and what to do about it. */
export interface Finding {
  /** Stable, for programs. */
  readonly name: string;
  /** `fine`; `lacks`: the node works, with a cost; `stops`: it does not start, or loses something. */
  readonly state: "fine" | "lacks" | "stops";
  readonly says: string;
  readonly costs?: string;
  readonly todo?: string;
}

export const fine = (name: string, says: string): Finding => ({ name, state: "fine", says });
export const lacks = (name: string, says: string, costs: string, todo?: string): Finding => ({
  name,
  state: "lacks",
  says,
  costs,
  ...(todo === undefined ? {} : { todo }),
});
export const stops = (name: string, says: string, todo: string): Finding => ({ name, state: "stops", says, todo });
