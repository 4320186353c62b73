// `helm test`: the API server serves StreamJobs to the controller's account, one controller leads, and one that is ready shows metrics.
//
// Environment: NAMESPACE, METRICS_URL, JOBS_PATH (where StreamJobs are listed), and what Kubernetes gives every pod.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const { NAMESPACE, METRICS_URL, JOBS_PATH, KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT } = process.env;
const ACCOUNT = process.env["ACCOUNT_FOLDER"] ?? "/var/run/secrets/kubernetes.io/serviceaccount";
const RETRY_INTERVAL_MS = 1_000;
const ATTEMPTS_MAX = Number(process.env["ATTEMPTS_MAX"] ?? 60);

async function get(url, headers = {}) {
  const answer = await fetch(url, { headers });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${text.slice(0, 500)}`);
  return text;
}

async function getFromApi(path) {
  const token = readFileSync(`${ACCOUNT}/token`, "utf8").trim();
  const host = `https://${KUBERNETES_SERVICE_HOST}:${KUBERNETES_SERVICE_PORT}`;
  return JSON.parse(await get(host + path, { authorization: `Bearer ${token}` }));
}

const CHECKS = {
  "StreamJobs are served": async () => {
    const { kind } = await getFromApi(JOBS_PATH);
    if (kind !== "StreamJobList") throw new Error(`${JOBS_PATH} is a ${kind}`);
  },
  "a controller leads": async () => {
    const { spec } = await getFromApi(`/apis/coordination.k8s.io/v1/namespaces/${NAMESPACE}/leases/sluice-controller`);
    const ageMs = Date.now() - Date.parse(spec.renewTime);
    if (!spec.holderIdentity) throw new Error("nobody holds the Lease sluice-controller");
    if (ageMs > 1000 * spec.leaseDurationSeconds)
      throw new Error(`the Lease sluice-controller was renewed ${Math.round(ageMs / 1000)} s ago`);
  },
  "a controller that is ready shows metrics": async () => {
    const text = await get(METRICS_URL);
    if (!text.includes("# TYPE ")) throw new Error(`${METRICS_URL} answers, but not with metrics`);
  },
};

for (const [name, check] of Object.entries(CHECKS)) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await check();
      console.log(`ok      ${name}`);
      break;
    } catch (error) {
      if (attempt === ATTEMPTS_MAX) {
        console.log(`FAILED  ${name}: ${error.cause?.message ?? error.message}`);
        console.log("What to do: kubectl describe and kubectl logs of the controller's pods say what they wait for.");
        process.exit(1);
      }
      await sleep(RETRY_INTERVAL_MS);
    }
  }
}
