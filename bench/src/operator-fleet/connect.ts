// How the processes of `npm run bench -- operator-fleet` reach the API server: each under a name of its own in the audit log.

import { HttpKubeApi } from "@sluice/controller/internal/kube/node";

export interface ApiServerAddress {
  readonly url: string;
  readonly ca: string;
  readonly token: string;
}

export function connect({ url, ca, token }: ApiServerAddress, userAgent: string): HttpKubeApi {
  const credentials = { headers: { authorization: `Bearer ${token}` }, tls: { ca } };
  return new HttpKubeApi({
    credentials: { server: url, namespace: "default", current: () => Promise.resolve(credentials) },
    userAgent,
  });
}
