// Public module of the real implementation of the Kubernetes API seam. Composition roots import it; core code must not.

export { HttpKubeApi } from "./http-api.ts";
export type { HttpKubeApiOptions } from "./http-api.ts";
export {
  defaultCredentials,
  inClusterCredentials,
  kubeconfigCredentials,
  SERVICE_ACCOUNT_DIRECTORY,
} from "./credentials.ts";
export type { Credentials, CredentialSource } from "./credentials.ts";
