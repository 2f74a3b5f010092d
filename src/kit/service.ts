/** What a microservice of one's own is made of: `import { contract, defineService, get, Type } from "@holdfast/edge/service"`. */
import { defineService as define } from "../kernel/service.ts";
import { honourOpenTelemetry, observed } from "../kernel/opentelemetry/register.ts";

export { Type } from "typebox";
export { type Call, makeCall } from "../kernel/call.ts";
export { contract, del, get, patch, post, put, type Service, stream } from "../kernel/contract.ts";
export { code, Failure, fail } from "../kernel/error.ts";
export { type Context, field, type Started } from "../kernel/service.ts";

honourOpenTelemetry();

/** Makes a service's main (kernel/service.ts); spans that it begins by OpenTelemetry's API are steps of its own. */
export const defineService: typeof define = (spec) => observed(define(spec));
