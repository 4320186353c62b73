// A job whose module comes from a URI, with its SHA-256. Modules inline are in all scenarios; one of a ConfigMap is in lifecycle.ts.

import { createHash } from "node:crypto";

import { conditionOf, ledgerSource } from "../harness/index.ts";
import { CROSSING_MIN, ENDLESS } from "../scenario.ts";
import type { Context, Scenario } from "../scenario.ts";

const BEFORE = 30_000;

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

async function fromUri(context: Context): Promise<void> {
  const { store, bucket } = context.world;
  const source = ledgerSource();
  const digest = sha256(source);
  const name = context.place("source/ledger.ts");
  await bucket.put(name, source);
  const url = `s3://${store.bucket}/${name}`;
  const ledger = context.ledger("sum", { count: ENDLESS, spec: { job: { uri: { url, sha256: digest } } } });
  const { job } = ledger;
  await ledger.start(BEFORE);
  context.proof(`${url} runs`);

  const before = ledger.processes();
  const wrong = sha256("another module");
  const faultMs = await job.apply({ ...ledger.args("v2"), job: { uri: { url, sha256: wrong } } });
  const message = await job.untilStalled("JobModuleInvalid");
  for (const named of [digest, wrong])
    context.check(message.includes(named), `the message does not name ${named}: ${message}`);
  const ready = conditionOf(job.job, "Ready");
  context.check(ready?.status === "True", `Ready is ${ready?.status}/${ready?.reason} though the old version runs`);
  context.check(ledger.processes() === before, "the pods of the old version were touched");
  context.proof(`another sha256: JobModuleInvalid: ${message.split("\n")[0]}; the old version runs on`);

  const signed = await bucket.signedUrl(name, store.endpoint, store.region);
  const { protocol, host } = new URL(signed);
  await job.apply({ ...ledger.args("v3"), job: { uri: { url: signed, sha256: digest } } });
  await job.untilStable();
  context.check(ledger.processes() !== before, "the pods are the same as before");
  context.proof(`the same module over ${protocol}//${host} was taken`);
  const files = await ledger.stopAndAudit(CROSSING_MIN * 1.3);
  ledger.crossed(files, faultMs, "a module with another sha256, then the right one over http");
}

export const SOURCES: readonly Scenario[] = [
  {
    name: "job-from-uri",
    about: "a module from s3:// with its sha256; a wrong one refused while the job runs; then from http://",
    lane: "parallel",
    run: fromUri,
  },
];
