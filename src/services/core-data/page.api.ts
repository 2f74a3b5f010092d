/** What every list of core-data takes. */
import { Type } from "typebox";
import { MAX_RESULT_COUNT } from "../../kernel/edgex.ts";

export const Page = {
  /** -1 asks EdgeX not to count; counting costs next to nothing here, so that it means 0. */
  offset: Type.Integer({ minimum: -1, default: 0 }),
  /** -1 means MAX_RESULT_COUNT. */
  limit: Type.Integer({ minimum: -1, maximum: MAX_RESULT_COUNT, default: 20 }),
  /** Numbers as numbers, not as text. */
  numeric: Type.Boolean({ default: false }),
};
