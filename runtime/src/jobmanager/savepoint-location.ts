// The directory of a new savepoint: `{target}/savepoint-{job id, 6}-{random, 12}`, as Flink names it.
//
// Pure; whether it can be written is found out by whoever writes.

import { Failure } from "@sluice/kit";
import { pathToFileURL } from "node:url";
import { SAVEPOINT_LOCATION_BYTES_MAX } from "../model/index.ts";

const SHORT_JOB_ID_LENGTH = 6;

/** A URI. Throws CONFIG_INVALID for a target that cannot be one. */
export function savepointLocation(
  target: string | undefined,
  name: { readonly jobId: string; readonly random: string },
): string {
  if (target === undefined || target.trim() === "") {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: "there is no place for the savepoint: no target directory was given, and none is configured",
      remedy:
        "name one, for example s3://bucket/savepoints or file:///var/lib/sluice/savepoints, or set execution.checkpointing.savepoint-dir",
    });
  }
  const uri = (target.startsWith("/") ? pathToFileURL(target).href : target).replace(/\/+$/u, "");
  if (!/^[a-z][a-z0-9+.-]*:\/\/./iu.test(uri)) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `"${target}" is no place for a savepoint: every process of the job must know where it is`,
      remedy: "give a URI such as s3://bucket/savepoints or file:///var/lib/sluice/savepoints, or an absolute path",
    });
  }
  const location = `${uri}/savepoint-${name.jobId.slice(0, SHORT_JOB_ID_LENGTH)}-${name.random}`;
  if (Buffer.byteLength(location) <= SAVEPOINT_LOCATION_BYTES_MAX) return location;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `the target directory of the savepoint is longer than ${SAVEPOINT_LOCATION_BYTES_MAX} bytes allow`,
    remedy: "give a shorter one",
  });
}
