import { code } from "../error.ts";

export const IDENTITY_NAME_INVALID = code(
  "IDENTITY_NAME_INVALID",
  "invalid",
  "Use letters, digits, '.', '-' and '_' for the names of nodes and services.",
);
export const IDENTITY_REQUEST_INVALID = code(
  "IDENTITY_REQUEST_INVALID",
  "invalid",
  "Make the certificate request anew, with a P-256 key.",
);
export const IDENTITY_AUTHORITY_INVALID = code(
  "IDENTITY_AUTHORITY_INVALID",
  "internal",
  "Restore the authority's certificate and key from the same backup.",
);
export const IDENTITY_CERTIFICATE_INVALID = code(
  "IDENTITY_CERTIFICATE_INVALID",
  "internal",
  "Report it: the certificate that was issued is not the one that was asked for.",
);
export const IDENTITY_NOT_READY = code(
  "IDENTITY_NOT_READY",
  "unavailable",
  "Wait until the service has its first certificate.",
);
export const IDENTITY_CERTIFICATE_REVOKED = code(
  "IDENTITY_CERTIFICATE_REVOKED",
  "unauthorized",
  "The certificate was revoked: a service gets a new one from its supervisor, a device is onboarded again.",
);
export const IDENTITY_PEER_OTHER = code(
  "IDENTITY_PEER_OTHER",
  "misdirected",
  "Resolve the service again: another one answers at its address.",
);
