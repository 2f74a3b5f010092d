/** Which resources a function acts on. */
import { Type } from "typebox";
import { field } from "../../../kernel/service.ts";

/** Names of resources, or `*` for all. */
export const ResourceNames = field(
  Type.Array(Type.String({ minLength: 1, maxLength: 1024 }), { minItems: 1, maxItems: 4096 }),
  {
    description: "Resources on whose readings it acts, by name; '*' for all. The readings of others pass as they are.",
    default: ["*"],
    example: ["Pressure"],
  },
);
