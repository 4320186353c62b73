// Drives Sluice's REST with Flink's Java client. Arguments: host:port, then `read JOB DIRECTORY` or `await JOB`.
//
// Every answer is read by Flink's own classes for it, which refuse what they do not know or miss. Prints one line per question.

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;

import org.apache.flink.api.common.JobID;
import org.apache.flink.api.common.JobStatus;
import org.apache.flink.client.program.rest.RestClusterClient;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.RestOptions;
import org.apache.flink.core.execution.CheckpointType;
import org.apache.flink.core.execution.SavepointFormatType;
import org.apache.flink.runtime.jobgraph.JobVertexID;
import org.apache.flink.runtime.jobmaster.JobResult;
import org.apache.flink.runtime.rest.messages.*;
import org.apache.flink.runtime.rest.messages.checkpoints.*;
import org.apache.flink.runtime.rest.messages.job.*;
import org.apache.flink.runtime.rest.messages.job.metrics.*;
import org.apache.flink.runtime.rest.messages.taskmanager.*;

public class Drive {
  private static RestClusterClient<String> client;

  public static void main(String[] args) throws Exception {
    String[] address = args[0].split(":");
    Configuration configuration = new Configuration();
    configuration.set(RestOptions.ADDRESS, address[0]);
    configuration.set(RestOptions.PORT, Integer.parseInt(address[1]));
    JobID job = JobID.fromHexString(args[2]);
    try (RestClusterClient<String> opened = new RestClusterClient<>(configuration, "sluice")) {
      client = opened;
      if (args[1].equals("read")) read(job, args[3]);
      else await(job);
    } catch (Throwable thrown) {
      thrown.printStackTrace();
      System.exit(1);
    }
    System.exit(0); // its threads need not end by themselves
  }

  private static void read(JobID job, String directory) throws Exception {
    say("listJobs", client.listJobs().get().size());
    say("status", client.getJobStatus(job).get() == JobStatus.RUNNING);
    var details = client.getJobDetails(job).get();
    say("details", details.getJobVertexInfos().size());
    say("accumulators", client.getAccumulators(job).get().size());
    say("overview", client.getClusterOverview().get().getNumTaskManagersConnected());

    JobMessageParameters ofJob = new JobMessageParameters();
    ofJob.jobPathParameter.resolve(job);
    ask("config", DashboardConfigurationHeaders.getInstance(), EmptyMessageParameters.getInstance());
    ask("jobConfig", JobConfigHeaders.getInstance(), ofJob);
    ask("plan", JobPlanHeaders.getInstance(), ofJob);
    ask("checkpoints", CheckpointingStatisticsHeaders.getInstance(), ofJob);
    ask("checkpointConfig", CheckpointConfigHeaders.getInstance(), ofJob);
    ask("taskManagers", TaskManagersHeaders.getInstance(), EmptyMessageParameters.getInstance());
    JobExceptionsMessageParameters ofExceptions = new JobExceptionsMessageParameters();
    ofExceptions.jobPathParameter.resolve(job);
    ask("exceptions", JobExceptionsHeaders.getInstance(), ofExceptions);
    ask("jobManagerConfig", ClusterConfigurationInfoHeaders.getInstance(), EmptyMessageParameters.getInstance());

    JobVertexID vertex = details.getJobVertexInfos().iterator().next().getJobVertexID();
    JobVertexMessageParameters ofVertex = new JobVertexMessageParameters();
    ofVertex.jobPathParameter.resolve(job);
    ofVertex.jobVertexIdPathParameter.resolve(vertex);
    ask("vertex", JobVertexDetailsHeaders.getInstance(), ofVertex);
    ask("vertexTaskManagers", JobVertexTaskManagersHeaders.getInstance(), ofVertex);
    ask("backPressure", JobVertexBackPressureHeaders.getInstance(), ofVertex);
    ask("subtaskTimes", SubtasksTimesHeaders.getInstance(), ofVertex);
    AggregatedSubtaskMetricsParameters ofMetrics = new AggregatedSubtaskMetricsParameters();
    for (MessagePathParameter<?> parameter : ofMetrics.getPathParameters()) {
      if (parameter instanceof JobIDPathParameter) ((JobIDPathParameter) parameter).resolve(job);
      else ((JobVertexIdPathParameter) parameter).resolve(vertex);
    }
    ask("aggregatedMetrics", AggregatedSubtaskMetricsHeaders.getInstance(), ofMetrics);

    var checkpoint = client.triggerCheckpoint(job, CheckpointType.FULL).get();
    say("checkpoint", checkpoint > 0);
    CheckpointMessageParameters ofCheckpoint = new CheckpointMessageParameters();
    for (MessagePathParameter<?> parameter : ofCheckpoint.getPathParameters()) {
      if (parameter instanceof JobIDPathParameter) ((JobIDPathParameter) parameter).resolve(job);
      else ((CheckpointIdPathParameter) parameter).resolve(checkpoint);
    }
    ask("checkpointDetails", CheckpointStatisticDetailsHeaders.getInstance(), ofCheckpoint);
    String savepoint = client.triggerSavepoint(job, directory, SavepointFormatType.CANONICAL).get();
    say("savepoint", savepoint.startsWith(directory));
    client.disposeSavepoint(savepoint).get();
    say("disposed", true);
    try {
      client.triggerSavepoint(job, "gopher://there/is/no/such/store", SavepointFormatType.CANONICAL).get();
      say("failure", "none");
    } catch (ExecutionException expected) {
      Throwable cause = expected;
      while (cause.getCause() != null) cause = cause.getCause();
      say("failure", cause);
    }
  }

  private static void await(JobID job) throws Exception {
    CompletableFuture<JobResult> result = client.requestJobResult(job);
    client.getJobStatus(job).get(); // by now the other question is on its way
    say("asked", true);
    say("result", result.get().isSuccess());
  }

  private static <M extends MessageHeaders<EmptyRequestBody, P, U>, U extends MessageParameters, P extends ResponseBody>
      void ask(String name, M headers, U parameters) throws Exception {
    client.sendRequest(headers, parameters, EmptyRequestBody.getInstance()).get();
    say(name, "read");
  }

  private static void say(String name, Object value) {
    System.out.println(name + "=" + value);
  }
}
