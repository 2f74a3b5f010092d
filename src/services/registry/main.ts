/** The registry's config and wiring. */
import { Type } from "typebox";
import { defineService, field } from "../../kernel/service.ts";
import { registry } from "./api.ts";
import { makeRegistry } from "./service.ts";

const TICKS_PER_TTL = 12;
/** Often enough for the registry to notice by its ticks that it was held up itself. */
const TICK_MS_MAX = 250;

export const main = defineService({
  contract: registry,
  config: Type.Object(
    {
      ttlMs: field(Type.Integer({ minimum: 200, maximum: 600_000 }), {
        description:
          "A hung instance is dropped when it has not renewed its lease for so many milliseconds. (A dead one is dropped at once.)",
        default: 3_000,
        example: 10_000,
      }),
      renewMs: field(Type.Integer({ minimum: 50, maximum: 200_000 }), {
        description: "How often instances renew their lease, in milliseconds; a third of ttlMs is good.",
        default: 1_000,
        example: 3_000,
      }),
    },
    { additionalProperties: false },
  ),
  needs: [],
  stateful: false,
  async start({ config, clock, log, stopping }) {
    if (config.renewMs * 2 > config.ttlMs)
      throw new Error(`config.renewMs (${config.renewMs}) must be at most half of config.ttlMs (${config.ttlMs})`);
    const running = makeRegistry({ clock, log, ...config });
    const ticking = setInterval(() => running.tick(), Math.min(TICK_MS_MAX, Math.ceil(config.ttlMs / TICKS_PER_TTL)));
    stopping.addEventListener("abort", () => clearInterval(ticking), { once: true });
    return { service: running.service };
  },
});
