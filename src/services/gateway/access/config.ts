/** The config of who is believed besides this node's own tokens: issuers, their login, authorities of client certificates. */
import { type Static, Type } from "typebox";
import { field } from "../../../kernel/service.ts";
import { ALGORITHMS } from "./keys.ts";

const strict = { additionalProperties: false } as const;
const HTTPS = "^https://[^/?#@]+(/[^?#]*)?$";
/** Part of the names of people, so without what separates there. */
const Name = (description: string, example: string) =>
  field(Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,30}$" }), { description, default: undefined, example });
const File = (description: string, example: string) =>
  field(Type.String({ minLength: 1, maxLength: 4_096 }), { description, default: undefined, example, reach: "file" });

const IssuerConfig = Type.Object(
  {
    name: Name("How it is called here: 'ann' of it is 'NAME/ann' in policies, logs and services.", "plant"),
    issuer: field(Type.String({ minLength: 1, maxLength: 2_048 }), {
      description:
        "As its tokens say it ('iss'), to the letter; an address where its keys are to be found by OpenID discovery.",
      default: undefined,
      example: "https://login.plant.example/realms/plant",
      reach: "url",
    }),
    jwksUrl: Type.Optional(
      field(Type.String({ pattern: HTTPS, maxLength: 2_048 }), {
        description: "Where its keys (JWKS) are; left out, its discovery tells.",
        default: undefined,
        example: "https://login.plant.example/keys",
        reach: "url",
      }),
    ),
    caFile: Type.Optional(
      File(
        "PEM file of the authorities that its server's certificate must come from, instead of the public ones.",
        "/etc/holdfast/plant-ca.pem",
      ),
    ),
    audiences: field(Type.Array(Type.String({ minLength: 1, maxLength: 256 }), { maxItems: 16 }), {
      description: "A token is for one of these ('aud'), or is refused.",
      default: undefined,
      example: ["https://edge-1.plant.example"],
    }),
    algorithms: field(
      Type.Array(Type.Union(ALGORITHMS.map((each) => Type.Literal(each))), {
        maxItems: ALGORITHMS.length,
      }),
      {
        description: "Its signatures are by one of these, whatever a token says.",
        default: ["ES256"],
        example: ["RS256"],
      },
    ),
    types: field(Type.Array(Type.String({ pattern: "^[a-z0-9.+-]{0,64}$" }), { maxItems: 8 }), {
      description: "The type that a token's header says ('typ'), in lower case; '' for none.",
      default: ["at+jwt", "jwt"],
      example: ["at+jwt"],
    }),
    keysStaleMsMax: field(Type.Integer({ minimum: 1_000, maximum: 30 * 86_400_000 }), {
      description: "Milliseconds that its keys are believed after it was last heard: links are intermittent.",
      default: 86_400_000,
      example: 3_600_000,
    }),
  },
  strict,
);
export type IssuerConfig = Static<typeof IssuerConfig>;

const LoginConfig = Type.Object(
  {
    issuer: Name("The name of the issuer at which people log in.", "plant"),
    clientId: field(Type.String({ minLength: 1, maxLength: 256 }), {
      description: "What this node is called there.",
      default: undefined,
      example: "edge-1",
    }),
    clientSecretFile: Type.Optional(
      File("File with the secret it is known by there; left out for a public client.", "/etc/holdfast/login.secret"),
    ),
    url: field(Type.String({ pattern: "^https://[^/?#@]+$", maxLength: 512 }), {
      description: "Where browsers find this door; URL/login/callback has to be registered at the issuer.",
      default: undefined,
      example: "https://edge-1.plant.example:8443",
    }),
    scopes: field(Type.Array(Type.String({ pattern: "^[!#-\\[\\]-~]{1,64}$" }), { maxItems: 16 }), {
      description: "What is asked of the issuer besides 'openid'.",
      default: [],
      example: ["groups"],
    }),
    sessionMs: field(Type.Integer({ minimum: 1_000, maximum: 7 * 86_400_000 }), {
      description: "Milliseconds after which a person logs in again.",
      default: 28_800_000,
      example: 3_600_000,
    }),
  },
  strict,
);
export type LoginConfig = Static<typeof LoginConfig>;

const AuthorityConfig = Type.Object(
  {
    name: Name("How it is called here: a certificate's holder is 'NAME/CN=...'.", "cloud"),
    caFile: File("PEM file of the certificates that sign the client certificates.", "/etc/holdfast/devices-ca.pem"),
  },
  strict,
);
export type AuthorityConfig = Static<typeof AuthorityConfig>;

/** Fields of the gateway's section. */
export const accessConfig = {
  issuers: field(Type.Array(IssuerConfig, { maxItems: 16 }), {
    description: "Whose tokens are believed besides this node's own; 'grants' of the routes file say what they may.",
    default: [],
  }),
  login: field(Type.Union([Type.Literal("none"), LoginConfig]), {
    description: "Login for browsers, by OpenID Connect at one of the issuers; 'none' unless there is a section.",
    default: "none",
  }),
  ownCertificates: field(Type.Boolean(), {
    description: "Whether a client certificate of this node's own authority, too, says who somebody is.",
    default: false,
    example: true,
  }),
  certificateAuthorities: field(Type.Array(AuthorityConfig, { maxItems: 16 }), {
    description:
      "Whose client certificates say who somebody is; 'grants' of the routes file say what they may. Without any, nobody is asked for one.",
    default: [],
  }),
};
