/** What a microservice of one's own is made of: `import { contract, defineService, get, Type } from "@holdfast/edge/service"`. */
export { Type } from "typebox";
export { type Call, makeCall } from "../kernel/call.ts";
export { contract, del, get, patch, post, put, type Service, stream } from "../kernel/contract.ts";
export { code, Failure, fail } from "../kernel/error.ts";
export { type Context, defineService, field, type Started } from "../kernel/service.ts";
