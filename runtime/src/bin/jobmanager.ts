// Entry of a JobManager process: `--config FILE` names its JobManagerConfig.

import type { JobManagerConfig } from "../model/index.ts";
import { readConfig, runProcess } from "./process-shell.ts";
import { runJobManager } from "./run-jobmanager.ts";

runProcess(() => runJobManager(readConfig<JobManagerConfig>()));
