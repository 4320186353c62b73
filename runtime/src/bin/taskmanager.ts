// Entry of a TaskManager process: `--config FILE` names its TaskManagerConfig.

import type { TaskManagerConfig } from "../model/index.ts";
import { readConfig, runProcess } from "./process-shell.ts";
import { runTaskManager } from "./run-taskmanager.ts";

runProcess(() => runTaskManager(readConfig<TaskManagerConfig>()));
